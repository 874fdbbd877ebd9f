/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads. helpers.c and layout.c are compiled with the very same flags. */
#include <linux/blkdev.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/gfp.h>
#include <linux/iomap.h>
#include <linux/migrate.h>
#include <linux/posix_acl.h>
#include <linux/raid/pq.h>
#include <linux/raid/pq_tables.h>
#include <linux/raid/xor.h>
#include <linux/statfs.h>
#include <linux/xattr.h>

#include "data_helpers.h"
#include "helpers.h"
#include "xattr_helpers.h"

/* Values of macros that bindgen does not evaluate. */
const unsigned long EMBR_CONST_SB_RDONLY = SB_RDONLY;
const unsigned long EMBR_CONST_SB_ACTIVE = SB_ACTIVE;
const unsigned long EMBR_CONST_SB_NOSEC = SB_NOSEC;
const unsigned long EMBR_CONST_SB_POSIXACL = SB_POSIXACL;
const blk_mode_t EMBR_CONST_BLK_OPEN_READ = BLK_OPEN_READ;
const blk_mode_t EMBR_CONST_BLK_OPEN_RESTRICT_WRITES = BLK_OPEN_RESTRICT_WRITES;
const unsigned int EMBR_CONST_FITRIM = FITRIM;
const unsigned int EMBR_CONST_FS_IOC_SHUTDOWN = FS_IOC_SHUTDOWN;
const blk_mode_t EMBR_CONST_BLK_OPEN_WRITE = BLK_OPEN_WRITE;
const blk_opf_t EMBR_CONST_REQ_SYNC = REQ_SYNC;
const gfp_t EMBR_CONST_GFP_NOIO = GFP_NOIO;
