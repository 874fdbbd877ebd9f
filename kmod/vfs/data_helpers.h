/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers of data.rs: static inlines of the page cache and of inode locks that Rust cannot reach. No logic here. */
#ifndef EMBR_DATA_HELPERS_H
#define EMBR_DATA_HELPERS_H

#include <linux/types.h>

struct address_space;
struct address_space_operations;
struct file;
struct folio;
struct inode;
struct iov_iter;
struct kiocb;
struct super_block;
struct timespec64;
struct vm_fault;

void embr_mapping_set_up(struct inode *inode, const struct address_space_operations *operations);
void embr_mapping_set_error(struct address_space *mapping, int error);
void embr_invalidate_lock(struct address_space *mapping);
void embr_invalidate_unlock(struct address_space *mapping);
void embr_invalidate_lock_shared(struct address_space *mapping);
void embr_invalidate_unlock_shared(struct address_space *mapping);

loff_t embr_i_size_read(const struct inode *inode);
void embr_i_size_write(struct inode *inode, loff_t size);
void embr_inode_lock(struct inode *inode);
void embr_inode_unlock(struct inode *inode);
void embr_inode_lock_shared(struct inode *inode);
void embr_inode_unlock_shared(struct inode *inode);
bool embr_inode_is_dirty(struct inode *inode);
void embr_mark_pages_dirty(struct inode *inode);
void embr_mark_times_dirty(struct inode *inode);
void embr_inode_touch(struct inode *inode);
void embr_data_times(const struct inode *inode, struct timespec64 *change, struct timespec64 *modification);

struct address_space *embr_folio_mapping(const struct folio *folio);
loff_t embr_folio_pos(const struct folio *folio);
size_t embr_folio_size(const struct folio *folio);
void *embr_folio_address(struct folio *folio, size_t offset);
void embr_folio_put_locked(struct folio *folio);
struct folio *embr_lock_cached_folio(struct address_space *mapping, loff_t at);
void embr_folio_zero_segment(struct folio *folio, size_t from, size_t to);

void embr_report_write_error(struct inode *inode, loff_t at, u64 len, int error);

void embr_sb_start_intwrite(struct super_block *sb);
void embr_sb_end_intwrite(struct super_block *sb);
void embr_sb_start_pagefault(struct super_block *sb);
void embr_sb_end_pagefault(struct super_block *sb);
void embr_sync_inodes(struct super_block *sb);

struct file *embr_fault_file(const struct vm_fault *fault);
struct folio *embr_fault_folio(const struct vm_fault *fault);
void embr_file_accessed(struct file *file);
ssize_t embr_write_sync(struct kiocb *iocb, ssize_t count);

#endif
