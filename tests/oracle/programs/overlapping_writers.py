"""Write overlapping ranges of the same files from threads of several processes: PROCESSES ROUNDS."""

import os
import random
import sys
import threading

processes, rounds = int(sys.argv[1]), int(sys.argv[2])
shared = os.open("shared", os.O_RDWR | os.O_CREAT, 0o644)


def work(number: int) -> None:
    chance = random.Random(number)
    own = os.open("ranges", os.O_RDWR | os.O_CREAT, 0o644)
    for each in range(rounds):
        data = bytes([number * 20 + each % 20]) * chance.choice((1, 16, 500, 4096, 5000, 70_000))
        choice = chance.randrange(8)
        if choice <= 3:
            os.pwrite(own, data, chance.randrange(100_000))
        elif choice == 4:
            os.write(shared, data[:5000])
        elif choice == 5:
            os.pwritev(shared, [data[:100], data[100:300], b"end"], chance.randrange(50_000))
        elif choice == 6:
            os.ftruncate(own, chance.randrange(120_000))
        else:
            os.lseek(shared, chance.randrange(10_000), os.SEEK_SET)
    os.close(own)


for number in range(processes):
    if os.fork() == 0:
        threads = [threading.Thread(target=work, args=(number * 2 + each,)) for each in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        os._exit(0)
for _ in range(processes):
    os.wait()
