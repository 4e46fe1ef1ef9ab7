/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What stands in the compiled programs for numbers of the kernel's BTF: the type and the function of read_field(), in
 * kernel.h. Both sides include it.
 */
#ifndef DIFFKEEPER_CASTS_H
#define DIFFKEEPER_CASTS_H

#define DK_CAST_TYPE 0x64666b74 /* r2 = this */
#define DK_CAST_CALL 0x64666b63 /* call this, right behind it */

#endif
