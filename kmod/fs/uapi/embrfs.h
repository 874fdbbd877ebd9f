/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* What programs can ask of a mounted embrfs. uapi.rs is the Rust twin; both sides assert the layout. */
#ifndef EMBRFS_UAPI_H
#define EMBRFS_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* statfs(2): f_type. "EMBR" in big-endian letters. */
#define EMBRFS_SUPER_MAGIC 0x454d4252

#define EMBRFS_LABEL_MAX 128

/* It cannot be written to. */
#define EMBRFS_INFO_READ_ONLY	(1U << 0)
/* Members are missing or stale. */
#define EMBRFS_INFO_DEGRADED	(1U << 1)
/* Shut down by FS_IOC_SHUTDOWN or by the loss of devices: all else gives EIO. */
#define EMBRFS_INFO_SHUT_DOWN	(1U << 2)

/*
 * The volume that a file or directory is on. The caller sets size to the room that it has; the kernel fills what it knows
 * and fits, and sets size to that. Fields are only ever added at the end.
 */
struct embrfs_info {
	__u32 size;
	__u32 format_version;
	__u8 uuid[16];
	__u8 epoch[16];		/* id of the membership epoch; zeros without CAP_SYS_ADMIN */
	__u64 epoch_number;	/* 1 for the first */
	__u64 generation;	/* of the newest root */
	__u64 capacity;		/* blocks of file data that fit on all members */
	__u64 free;		/* of these */
	__u32 block_size;
	__u8 data;		/* k */
	__u8 parity;		/* m */
	__u8 reserved0[2];
	__u32 members;		/* that the volume has */
	__u32 current;		/* of these, here and up to date */
	__u32 absent;		/* of these, missing or stale */
	__u32 flags;		/* EMBRFS_INFO_* */
	__u8 label[EMBRFS_LABEL_MAX + 8];	/* UTF-8, terminated */
	__u64 written;		/* blocks of file data since the mount, without copies and parity */
	__u64 moved;		/* blocks that were written again since, to have room */
	__u64 regained;		/* blocks of all members that are free, or soon will be, because of it */
};

/* The number names the first field only, so it stays the same when fields are added. */
#define EMBRFS_IOC_INFO _IOWR(0xEB, 1, __u32)

#endif
