# SPDX-License-Identifier: LGPL-2.1-or-later
import asyncio
import errno

import gaio


async def save(file, data):
    offset = 0
    while offset < len(data):
        offset += await gaio.pwrite(file, data[offset:], offset)
    await gaio.fsync(file)


async def main():
    with open('colours', 'w+b', buffering=0) as file:
        await save(file, b'red\ngreen\nblue\n')
        print(await gaio.pread(file, 5, 4))
        print(await asyncio.gather(*(gaio.pread(file, 1, i) for i in range(3))))
    with open('colours', 'rb') as file:
        try:
            await gaio.pwrite(file, b'black', 0)
        except OSError as error:
            print(error.errno == errno.EBADF)


gaio.run(main())
