/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers for extended attributes: what is inline, or absent in some kernels, or wants a namespace of the kernel's. */
#ifndef EMBR_XATTR_HELPERS_H
#define EMBR_XATTR_HELPERS_H

#include <linux/types.h>

struct dentry;
struct file;
struct inode;
struct mnt_idmap;
struct posix_acl;
struct xattr;
struct xattr_handler;

const char *embr_xattr_full_name(const struct xattr_handler *handler, const char *name);
int embr_init_security(struct inode *inode, struct inode *dir, const struct dentry *dentry,
		       int (*collect)(struct inode *, const struct xattr *, void *), void *data);
struct dentry *embr_file_dentry(const struct file *file);

struct posix_acl *embr_acl_parse(const void *value, size_t size);
void *embr_acl_encode(const struct posix_acl *acl, size_t *size);
void embr_acl_encoded_free(void *value);
void embr_acl_release(struct posix_acl *acl);
int embr_acl_create(struct inode *dir, umode_t *mode, struct posix_acl **for_children, struct posix_acl **access);
int embr_acl_update_mode(struct mnt_idmap *idmap, struct inode *inode, umode_t *mode, struct posix_acl **acl);
int embr_acl_chmod(struct mnt_idmap *idmap, struct dentry *dentry, umode_t mode);
void embr_acl_cache(struct inode *inode, int type, struct posix_acl *acl);

#endif
