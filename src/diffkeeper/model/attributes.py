"""What the kernel does to extended attributes on its own: access control lists follow the mode, capabilities go.

Sources: the kernel's posix_acl_chmod, posix_acl_create and posix_acl_update_mode (fs/posix_acl.c), the layout of
include/uapi/linux/posix_acl_xattr.h, cap_inode_killpriv (security/commoncap.c) and chown_common (fs/open.c), which
spares directories.
"""

from __future__ import annotations

import stat
import struct

from diffkeeper.model.event import Kind

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
CAPABILITY = b"security.capability"
_SECOND_NAME = b"trusted.SGI_ACL_"

_VERSION = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_USER_OBJ, _GROUP_OBJ, _MASK, _OTHER = 0x01, 0x04, 0x10, 0x20
_KILLS_CAPABILITY = frozenset({Kind.WRITE, Kind.COPY, Kind.TRUNCATE, Kind.FALLOCATE, Kind.CHOWN})

_Entries = list[tuple[int, int, int]]  # tag, permissions, id


def is_second_name(name: bytes) -> bool:
    """Say whether an attribute is the other name under which XFS shows an access control list (walk.h)."""
    return name.startswith(_SECOND_NAME)


def settle(xattrs: dict[bytes, bytes], kind: Kind, mode: int) -> None:
    """Bring the attributes of a node, not empty, in line after an event that left it with ``mode``."""
    if kind in _KILLS_CAPABILITY and not stat.S_ISDIR(mode):
        xattrs.pop(CAPABILITY, None)
    access = xattrs.get(ACCESS)
    if access is not None:
        _put(xattrs, ACCESS, _with_mode(access, mode))
    if xattrs.get(DEFAULT) == _VERSION.pack(2):
        del xattrs[DEFAULT]  # a list without entries removes


def inherit(parent: dict[bytes, bytes], mode: int, is_directory: bool) -> dict[bytes, bytes]:
    """Return the attributes that a node is born with in a directory with attributes ``parent``."""
    default = parent.get(DEFAULT)
    if default is None:
        return {}
    born: dict[bytes, bytes] = {}
    _put(born, ACCESS, _with_mode(default, mode))
    if is_directory:
        born[DEFAULT] = default
    return born


def _put(xattrs: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    """Set an access control list, or remove it when it says no more than the mode: such a one is not stored."""
    entries = _entries(value)
    if entries is not None and all(tag in (_USER_OBJ, _GROUP_OBJ, _OTHER) for tag, _, _ in entries):
        xattrs.pop(name, None)
    else:
        xattrs[name] = value


def _with_mode(value: bytes, mode: int) -> bytes:
    """Return a list whose permissions are those of the mode: owner, mask (without one: group) and others."""
    entries = _entries(value)
    if entries is None:
        return value
    group = _MASK if any(tag == _MASK for tag, _, _ in entries) else _GROUP_OBJ
    shifts = {_USER_OBJ: 6, group: 3, _OTHER: 0}
    settled = [(tag, mode >> shifts[tag] & 7 if tag in shifts else bits, who) for tag, bits, who in entries]
    return value[: _VERSION.size] + b"".join(_ENTRY.pack(*entry) for entry in settled)


def _entries(value: bytes) -> _Entries | None:
    """Return the entries of a list, None if it is not one of version 2."""
    size = len(value) - _VERSION.size
    if size < 0 or size % _ENTRY.size or value[: _VERSION.size] != _VERSION.pack(2):
        return None
    return list(_ENTRY.iter_unpack(value[_VERSION.size :]))
