"""Insert rows into SQLite, each with a commit of its own, as it is by default: commits.py ROWS."""

import sqlite3
import sys

connection = sqlite3.connect("db", isolation_level=None)
connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text)")
for number in range(int(sys.argv[1])):
    connection.execute("INSERT INTO t(text) VALUES (?)", (f"row {number} " * 10,))
