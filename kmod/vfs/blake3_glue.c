// SPDX-License-Identifier: GPL-2.0
/* What Rust cannot do for SIMD: ask the processor, and bracket sections that use vector registers. */
#include <linux/percpu.h>
#include <linux/preempt.h>

#ifdef CONFIG_UML
#include <linux/types.h>
#else
#include <asm/cpufeature.h>
#include <asm/fpu/api.h>
#endif

#include "helpers.h"

void __percpu *embr_blake3_alloc(size_t size)
{
	return __alloc_percpu(size, 64);
}

void embr_blake3_free(void __percpu *scratch)
{
	free_percpu(scratch);
}

void *embr_blake3_scratch(void __percpu *scratch)
{
	return this_cpu_ptr(scratch);
}

#ifdef CONFIG_UML

static void cpuid(u32 leaf, u32 *a, u32 *b, u32 *c, u32 *d)
{
	asm volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(0));
}

static u32 xcr0(void)
{
	u32 a, d;

	asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	return a;
}

#define LEAF1_C_SSE41	(1U << 19)
#define LEAF1_C_OSXSAVE	(1U << 27)
#define LEAF7_B_AVX2	(1U << 5)
#define LEAF7_B_AVX512F	(1U << 16)
#define LEAF7_B_AVX512VL (1U << 31)
#define XCR0_YMM	0x06
#define XCR0_ZMM	0xe6

u32 embr_blake3_features(void)
{
	u32 most, a, b, c, d, leaf1_c, leaf7_b = 0, state = 0;

	cpuid(0, &most, &b, &c, &d);
	cpuid(1, &a, &b, &leaf1_c, &d);
	if (most >= 7)
		cpuid(7, &a, &leaf7_b, &c, &d);
	if (leaf1_c & LEAF1_C_OSXSAVE)
		state = xcr0();
	return (leaf1_c & LEAF1_C_SSE41 ? EMBR_BLAKE3_SSE41 : 0) |
	       (leaf7_b & LEAF7_B_AVX2 && (state & XCR0_YMM) == XCR0_YMM ? EMBR_BLAKE3_AVX2 : 0) |
	       (leaf7_b & LEAF7_B_AVX512F && leaf7_b & LEAF7_B_AVX512VL && (state & XCR0_ZMM) == XCR0_ZMM ?
			EMBR_BLAKE3_AVX512 : 0);
}

/* The registers are the host process's own; they only must not be switched away from. */
bool embr_blake3_usable(void)
{
	return in_task();
}

void embr_blake3_begin(void)
{
	preempt_disable();
}

void embr_blake3_end(void)
{
	preempt_enable();
}

#else

u32 embr_blake3_features(void)
{
	return (boot_cpu_has(X86_FEATURE_XMM4_1) ? EMBR_BLAKE3_SSE41 : 0) |
	       (boot_cpu_has(X86_FEATURE_AVX2) && cpu_has_xfeatures(XFEATURE_MASK_SSE | XFEATURE_MASK_YMM, NULL) ?
			EMBR_BLAKE3_AVX2 : 0) |
	       (boot_cpu_has(X86_FEATURE_AVX512F) && boot_cpu_has(X86_FEATURE_AVX512VL) &&
		cpu_has_xfeatures(XFEATURE_MASK_SSE | XFEATURE_MASK_YMM | XFEATURE_MASK_AVX512, NULL) ?
			EMBR_BLAKE3_AVX512 : 0);
}

bool embr_blake3_usable(void)
{
	return irq_fpu_usable();
}

void embr_blake3_begin(void)
{
	kernel_fpu_begin();
}

void embr_blake3_end(void)
{
	kernel_fpu_end();
}

#endif
