/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who may read what: the helper and the programs see every file, its user gets the bytes of those alone that they could
 * have read themselves.
 */
#ifndef DIFFKEEPER_READER_H
#define DIFFKEEPER_READER_H

enum { READS_FILE = 4, LISTS_FOLDER = 5 };

/*
 * As the kernel judges (acl_permission_check in fs/namei.c): the first class that applies decides, even where the next
 * would grant more. Which further groups a reader is in is not known here, so others' bits count only where the group
 * has them too. Access control lists are not asked.
 */
static inline __attribute__((always_inline)) int grants(
	unsigned reader_uid, unsigned reader_gid, unsigned uid, unsigned gid, unsigned mode, unsigned wanted)
{
	if (!reader_uid)
		return 1;
	if (uid == reader_uid)
		mode >>= 6;
	else if (gid == reader_gid)
		mode >>= 3;
	else
		mode &= mode >> 3;
	return (mode & wanted) == wanted;
}

#endif
