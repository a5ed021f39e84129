"""Relays a port of one of this machine's addresses to the same port of its loopback, until it is killed.

Containers cannot reach loopback, where `layergate local` listens and nobody else should reach it.
"""

import asyncio
import socket
import sys


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def main(address: str, port: int) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(copy(reader, back), copy(there, writer))
            back.close()
        except OSError as error:
            print(f"relay: {error}", file=sys.stderr)
        finally:
            writer.close()

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # The engine gives the machine this address only with its first container.
    listener.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND of <linux/in.h>
    listener.bind((address, port))
    server = await asyncio.start_server(relay, sock=listener)
    await server.serve_forever()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
