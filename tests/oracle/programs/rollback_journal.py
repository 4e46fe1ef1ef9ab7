"""Use SQLite with a rollback journal in each of its modes, DELETE, TRUNCATE and PERSIST: TRANSACTIONS."""

import contextlib
import random
import shutil
import sqlite3
import sys

chance = random.Random(1)
for mode in ("DELETE", "TRUNCATE", "PERSIST"):
    with contextlib.closing(sqlite3.connect("data.db", isolation_level=None)) as base:
        base.execute(f"PRAGMA journal_mode={mode}")
        base.execute("PRAGMA synchronous=OFF")
        base.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text BLOB)")
        for step in range(int(sys.argv[1])):
            base.execute("BEGIN")
            rows = [(chance.randbytes(chance.randrange(3000)),) for _ in range(20)]
            base.executemany("INSERT INTO t(text) VALUES (?)", rows)
            base.execute("UPDATE t SET text = ? WHERE id % 17 = ?", (chance.randbytes(500), step % 17))
            base.execute("DELETE FROM t WHERE id % 23 = ?", (step % 23,))
            base.execute("ROLLBACK" if step % 5 == 4 else "COMMIT")
        base.execute("VACUUM")
    shutil.copyfile("data.db", f"copy_{mode}.db")
