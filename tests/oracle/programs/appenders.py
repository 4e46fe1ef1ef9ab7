"""Append to shared files from many processes: PROCESSES LINES."""

import os
import sys

processes, lines = int(sys.argv[1]), int(sys.argv[2])
shared = os.open("inherited.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)  # one open file for all
plain = os.open("offset.log", os.O_WRONLY | os.O_CREAT, 0o644)  # one offset for all
for number in range(processes):
    if os.fork() == 0:
        own = os.open("own.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for line in range(lines):
            text = f"process {number} line {line} {'x' * (line * 7 % 90)}\n".encode()
            os.write(own, text)
            os.write(shared, text)
            os.write(plain, text)
            if line % 50 == 0:
                os.writev(own, [b"v1 ", text[:-1], b" v2\n"])
        os._exit(0)
for _ in range(processes):
    os.wait()
