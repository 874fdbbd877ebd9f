// SPDX-License-Identifier: GPL-2.0
/* The C side of the layout that uapi.rs asserts in Rust. There is no code here. */
#include <linux/build_bug.h>
#include <linux/stddef.h>

#include "uapi/embrfs.h"

static_assert(sizeof(struct embrfs_info) == 256);
static_assert(offsetof(struct embrfs_info, uuid) == 8);
static_assert(offsetof(struct embrfs_info, epoch_number) == 40);
static_assert(offsetof(struct embrfs_info, block_size) == 72);
static_assert(offsetof(struct embrfs_info, members) == 80);
static_assert(offsetof(struct embrfs_info, label) == 96);
static_assert(offsetof(struct embrfs_info, written) == 232);
static_assert(EMBRFS_IOC_INFO == 0xc004eb01);
