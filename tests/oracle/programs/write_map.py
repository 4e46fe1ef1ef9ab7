"""Fill and change an LMDB database whose map is writable: ROUNDS."""

import random
import sys

import lmdb

chance = random.Random(2)
for sync in (True, False):
    with lmdb.open(
        f"db{sync:d}", map_size=8 << 20, writemap=True, sync=sync, map_async=not sync, max_dbs=2
    ) as database:
        for number in range(int(sys.argv[1])):
            with database.begin(write=True) as transaction:
                for _ in range(20):
                    key = b"%06d" % chance.randrange(2000)
                    transaction.put(key, chance.randbytes(chance.randrange(900)))
                    transaction.delete(b"%06d" % chance.randrange(2000))
                if number % 9 == 8:
                    transaction.abort()
        database.sync(True)
        database.copy(".") if sync else None
