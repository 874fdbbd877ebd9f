// SPDX-License-Identifier: GPL-2.0
#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <linux/xattr.h>

#include "xattr_helpers.h"

const char *embr_xattr_full_name(const struct xattr_handler *handler, const char *name)
{
	return xattr_full_name(handler, name);
}

int embr_init_security(struct inode *inode, struct inode *dir, const struct dentry *dentry,
		       int (*collect)(struct inode *, const struct xattr *, void *), void *data)
{
	return security_inode_init_security(inode, dir, &dentry->d_name, collect, data);
}

struct dentry *embr_file_dentry(const struct file *file)
{
	return file->f_path.dentry;
}

struct posix_acl *embr_acl_parse(const void *value, size_t size)
{
	return posix_acl_from_xattr(&init_user_ns, value, size);
}

void embr_acl_encoded_free(void *value)
{
	kfree(value);
}

void embr_acl_release(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

int embr_acl_create(struct inode *dir, umode_t *mode, struct posix_acl **for_children, struct posix_acl **access)
{
	return posix_acl_create(dir, mode, for_children, access);
}

int embr_acl_chmod(struct mnt_idmap *idmap, struct dentry *dentry, umode_t mode)
{
	return posix_acl_chmod(idmap, dentry, mode);
}

#ifdef CONFIG_FS_POSIX_ACL
void *embr_acl_encode(const struct posix_acl *acl, size_t *size)
{
	return posix_acl_to_xattr(&init_user_ns, acl, size, GFP_NOFS);
}

int embr_acl_update_mode(struct mnt_idmap *idmap, struct inode *inode, umode_t *mode, struct posix_acl **acl)
{
	return posix_acl_update_mode(idmap, inode, mode, acl);
}

void embr_acl_cache(struct inode *inode, int type, struct posix_acl *acl)
{
	set_cached_acl(inode, type, acl);
}
#else
void *embr_acl_encode(const struct posix_acl *acl, size_t *size)
{
	return NULL;
}

int embr_acl_update_mode(struct mnt_idmap *idmap, struct inode *inode, umode_t *mode, struct posix_acl **acl)
{
	return -EOPNOTSUPP;
}

void embr_acl_cache(struct inode *inode, int type, struct posix_acl *acl)
{
}
#endif
