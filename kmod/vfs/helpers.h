/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of the safe wrappers: static inlines, macros and anonymous unions that Rust cannot reach. No logic here. */
#ifndef EMBR_HELPERS_H
#define EMBR_HELPERS_H

#include <linux/types.h>

struct block_device;
struct dentry;
struct dir_context;
struct file;
struct file_operations;
struct fs_parameter;
struct inode;
struct kmem_cache;
struct kstat;
struct seq_file;
struct super_block;
struct timespec64;

unsigned int embr_memalloc_nofs_save(void);
void embr_memalloc_nofs_restore(unsigned int flags);

bool embr_inode_is_new(struct inode *inode);
void embr_inode_set_owner(struct inode *inode, u32 uid, u32 gid);
void embr_inode_set_times(struct inode *inode, const struct timespec64 *access, const struct timespec64 *change,
			  const struct timespec64 *modification);
void embr_inode_times(struct inode *inode, struct timespec64 *access, struct timespec64 *change,
		      struct timespec64 *modification);
void embr_inode_set_ctime(struct inode *inode, const struct timespec64 *time);
void embr_inode_set_mtime(struct inode *inode, const struct timespec64 *time);
u32 embr_inode_uid(struct inode *inode);
u32 embr_inode_gid(struct inode *inode);
u32 embr_inode_links(struct inode *inode);
s64 embr_inode_size(struct inode *inode);
void embr_inode_set_size(struct inode *inode, s64 size);
void embr_inode_set_link(struct inode *inode, char *link);
void embr_inode_init_special(struct inode *inode, u32 major, u32 minor);
void embr_stat_set_born(struct kstat *stat, const struct timespec64 *time);
struct kmem_cache *embr_inode_cache(const char *name, u32 size, u32 align, void (*ctor)(void *));
void *embr_inode_alloc(struct kmem_cache *cache, struct super_block *sb);
int embr_finish_open(struct file *file);
void embr_inode_set_fop(struct inode *inode, const struct file_operations *fop);

void embr_super_set_uuid(struct super_block *sb, const u8 *uuid);
int embr_super_sync(struct super_block *sb);
const u8 *embr_dentry_name(const struct dentry *dentry, size_t *len);
struct dentry *embr_dget(struct dentry *dentry);

bool embr_dir_emit(struct dir_context *ctx, const char *name, int len, u64 ino, unsigned int type);
bool embr_dir_emit_dots(struct file *file, struct dir_context *ctx);

const char *embr_param_string(const struct fs_parameter *param);
void embr_seq_show_option(struct seq_file *seq, const char *name, const char *value);

u64 embr_bdev_size(struct block_device *bdev);
unsigned int embr_bdev_logical_block_size(struct block_device *bdev);
unsigned int embr_bdev_max_discard_sectors(struct block_device *bdev);
u32 embr_bdev_number(struct block_device *bdev);
void embr_bdev_name(struct block_device *bdev, char *name, size_t size);

bool embr_raid_usable(void);

/* What the processor and the kernel let us use. */
#define EMBR_BLAKE3_SSE41	1
#define EMBR_BLAKE3_AVX2	2
#define EMBR_BLAKE3_AVX512	4
u32 embr_blake3_features(void);
bool embr_blake3_usable(void);
void embr_blake3_begin(void);
void embr_blake3_end(void);
void __percpu *embr_blake3_alloc(size_t size);
void embr_blake3_free(void __percpu *scratch);
void *embr_blake3_scratch(void __percpu *scratch);

#endif
