// SPDX-License-Identifier: GPL-2.0
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/sched/mm.h>
#include <linux/seq_file.h>

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

void embr_inode_set_fop(struct inode *inode, const struct file_operations *fop)
{
	inode->i_fop = fop;
}

void embr_super_set_uuid(struct super_block *sb, const u8 *uuid)
{
	super_set_uuid(sb, uuid, UUID_SIZE);
	super_set_sysfs_name_uuid(sb);
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

u32 embr_bdev_number(struct block_device *bdev)
{
	return new_encode_dev(bdev->bd_dev);
}

void embr_bdev_name(struct block_device *bdev, char *name, size_t size)
{
	snprintf(name, size, "%pg", bdev);
}
