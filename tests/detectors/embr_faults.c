// SPDX-License-Identifier: GPL-2.0
/*
 * Deliberate faults, one per loading: insmod embr_faults.ko fault=NAME. Each must be noticed by the detector that
 * it is made for; the tests detect-*.sh see to that. Never loaded anywhere but in a test guest.
 */
#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

static char *fault = "";
module_param(fault, charp, 0);
MODULE_PARM_DESC(fault, "out-of-bounds, lock-order, atomic-sleep, leak, warn or spin");

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(spin);

/* KASAN: one byte beyond what was asked for, in the same slab object's padding. */
static noinline int out_of_bounds(void)
{
	size_t size = 123;
	volatile u8 *bytes = kzalloc(size, GFP_KERNEL);
	u8 got;

	if (!bytes)
		return -ENOMEM;
	OPTIMIZER_HIDE_VAR(size);
	got = bytes[size];
	kfree((const void *)bytes);
	pr_info("embr_faults: read %u out of bounds\n", got);
	return 0;
}

/* lockdep: both orders of two locks, one after the other, so that nothing really deadlocks. */
static noinline int lock_order(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
	return 0;
}

/* DEBUG_ATOMIC_SLEEP: an allocation that may sleep under a spinlock. */
static noinline int atomic_sleep(void)
{
	void *memory;

	spin_lock(&spin);
	memory = kmalloc(64, GFP_KERNEL);
	spin_unlock(&spin);
	kfree(memory);
	return 0;
}

/* kmemleak: many, as a stale copy of a pointer may hide one or the other. */
static noinline int leak(void)
{
	int i;

	for (i = 0; i < 64; i++) {
		char *lost = kmalloc(96, GFP_KERNEL);

		if (lost)
			strscpy(lost, "lost on purpose", 96);
	}
	return 0;
}

/* The watchdog of the host: a guest that no signal but SIGKILL ends. */
static noinline int spin_for_ever(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
	return 0;
}

static int __init embr_faults_init(void)
{
	if (!strcmp(fault, "out-of-bounds"))
		return out_of_bounds();
	if (!strcmp(fault, "lock-order"))
		return lock_order();
	if (!strcmp(fault, "atomic-sleep"))
		return atomic_sleep();
	if (!strcmp(fault, "leak"))
		return leak();
	if (!strcmp(fault, "warn"))
		return WARN(1, "embr_faults: warned on purpose\n") ? 0 : -EINVAL;
	if (!strcmp(fault, "spin"))
		return spin_for_ever();
	pr_err("embr_faults: unknown fault '%s'\n", fault);
	return -EINVAL;
}

static void __exit embr_faults_exit(void)
{
}

module_init(embr_faults_init);
module_exit(embr_faults_exit);
MODULE_DESCRIPTION("Deliberate faults that prove the detectors");
MODULE_LICENSE("GPL");
