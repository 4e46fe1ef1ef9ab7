"""Make files and folders that are gone at once, from several processes: PROCESSES ROUNDS."""

import os
import sys

processes, rounds = int(sys.argv[1]), int(sys.argv[2])
for number in range(processes):
    if os.fork() == 0:
        os.mkdir(f"of{number}")
        os.chdir(f"of{number}")
        for each in range(rounds):
            handle = os.open("brief", os.O_RDWR | os.O_CREAT, 0o600)
            os.write(handle, b"lives for %d" % each)
            if each % 7 == 0:
                os.rename("brief", "kept")
            else:
                os.unlink("brief")
            os.write(handle, b", written after its name was gone")
            os.close(handle)
            os.mkdir("folder")
            if each % 11 == 0:
                os.symlink("x" * (each % 50 + 1), "folder/symlink")
                os.unlink("folder/symlink")
            os.rmdir("folder")
        os._exit(0)
for _ in range(processes):
    os.wait()
