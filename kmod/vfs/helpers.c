// SPDX-License-Identifier: GPL-2.0
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/irqflags.h>
#include <linux/preempt.h>
#include <linux/sched/mm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "helpers.h"

unsigned int embr_memalloc_nofs_save(void)
{
	return memalloc_nofs_save();
}

void embr_memalloc_nofs_restore(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}

bool embr_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

void embr_inode_set_owner(struct inode *inode, u32 uid, u32 gid)
{
	i_uid_write(inode, uid);
	i_gid_write(inode, gid);
}

void embr_inode_set_times(struct inode *inode, const struct timespec64 *access, const struct timespec64 *change,
			  const struct timespec64 *modification)
{
	inode_set_atime_to_ts(inode, *access);
	inode_set_ctime_to_ts(inode, *change);
	inode_set_mtime_to_ts(inode, *modification);
}

void embr_inode_times(struct inode *inode, struct timespec64 *access, struct timespec64 *change,
		      struct timespec64 *modification)
{
	*access = inode_get_atime(inode);
	*change = inode_get_ctime(inode);
	*modification = inode_get_mtime(inode);
}

void embr_inode_set_ctime(struct inode *inode, const struct timespec64 *time)
{
	inode_set_ctime_to_ts(inode, *time);
}

void embr_inode_set_mtime(struct inode *inode, const struct timespec64 *time)
{
	inode_set_mtime_to_ts(inode, *time);
}

u32 embr_inode_uid(struct inode *inode)
{
	return i_uid_read(inode);
}

u32 embr_inode_gid(struct inode *inode)
{
	return i_gid_read(inode);
}

u32 embr_inode_links(struct inode *inode)
{
	return READ_ONCE(inode->i_nlink);
}

s64 embr_inode_size(struct inode *inode)
{
	return i_size_read(inode);
}

void embr_inode_set_size(struct inode *inode, s64 size)
{
	i_size_write(inode, size);
}

void embr_inode_set_link(struct inode *inode, char *link)
{
	inode->i_link = link;
}

void embr_inode_init_special(struct inode *inode, u32 major, u32 minor)
{
	init_special_inode(inode, inode->i_mode, MKDEV(major, minor));
}

void embr_stat_set_born(struct kstat *stat, const struct timespec64 *time)
{
	stat->btime = *time;
	stat->result_mask |= STATX_BTIME;
}

struct kmem_cache *embr_inode_cache(const char *name, u32 size, u32 align, void (*ctor)(void *))
{
	struct kmem_cache_args args = { .align = align, .ctor = ctor };

	return kmem_cache_create(name, size, &args, SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT);
}

void *embr_inode_alloc(struct kmem_cache *cache, struct super_block *sb)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

int embr_finish_open(struct file *file)
{
	return finish_open_simple(file, 0);
}

void embr_inode_set_fop(struct inode *inode, const struct file_operations *fop)
{
	inode->i_fop = fop;
}

void embr_super_set_uuid(struct super_block *sb, const u8 *uuid)
{
	super_set_uuid(sb, uuid, UUID_SIZE);
	super_set_sysfs_name_uuid(sb);
}

int embr_super_sync(struct super_block *sb)
{
	int error;

	down_read(&sb->s_umount);
	error = sync_filesystem(sb);
	up_read(&sb->s_umount);
	return error;
}

const u8 *embr_dentry_name(const struct dentry *dentry, size_t *len)
{
	*len = dentry->d_name.len;
	return dentry->d_name.name;
}

struct dentry *embr_dget(struct dentry *dentry)
{
	return dget(dentry);
}

bool embr_dir_emit(struct dir_context *ctx, const char *name, int len, u64 ino, unsigned int type)
{
	return dir_emit(ctx, name, len, ino, type);
}

bool embr_dir_emit_dots(struct file *file, struct dir_context *ctx)
{
	return dir_emit_dots(file, ctx);
}

const char *embr_param_string(const struct fs_parameter *param)
{
	return param->string;
}

void embr_seq_show_option(struct seq_file *seq, const char *name, const char *value)
{
	seq_show_option(seq, name, value);
}

u64 embr_bdev_size(struct block_device *bdev)
{
	return bdev_nr_bytes(bdev);
}

unsigned int embr_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

unsigned int embr_bdev_max_discard_sectors(struct block_device *bdev)
{
	return bdev_max_discard_sectors(bdev);
}

u32 embr_bdev_number(struct block_device *bdev)
{
	return new_encode_dev(bdev->bd_dev);
}

void embr_bdev_name(struct block_device *bdev, char *name, size_t size)
{
	snprintf(name, size, "%pg", bdev);
}

/* What lib/raid warns about otherwise. */
bool embr_raid_usable(void)
{
	return in_task() && !irqs_disabled() && !softirq_count();
}
