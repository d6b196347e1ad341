"""Splits what a Linux host and target say over NVMe/TCP into capsules.

tap.py LISTEN_PORT TARGET_PORT DIR   stands between them until killed
tap.py split DIR                     writes NAME.sqes, NAME.cqes and NAME.connect for each stream
"""

import glob
import socket
import sys
import threading


def pump(source, sink, path):
    with open(path, "wb") as log:
        while True:
            try:
                data = source.recv(65536)
                if not data:
                    break
                log.write(data)
                log.flush()
                sink.sendall(data)
            except OSError:
                break
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def tap(listen, target, folder):
    server = socket.create_server(("127.0.0.1", listen))
    number = 0
    while True:
        host, _ = server.accept()
        controller = socket.create_connection(("127.0.0.1", target))
        for a, b, name in ((host, controller, "host"), (controller, host, "ctrl")):
            path = f"{folder}/stream{number}.{name}"
            threading.Thread(target=pump, args=(a, b, path), daemon=True).start()
        number += 1


def pdus(stream):
    """Type, header after the 8 common bytes, and data of each PDU (no digests)."""
    while len(stream) >= 8:
        kind, header, offset = stream[0], stream[2], stream[3]
        length = int.from_bytes(stream[4:8], "little")
        data = stream[offset:length] if offset else b""
        yield kind, stream[8:header], data
        stream = stream[length:]


def split(folder):
    for path in sorted(glob.glob(f"{folder}/*.host")):
        name = path.removesuffix(".host")
        sqes, connect = b"", b""
        for kind, header, data in pdus(open(path, "rb").read()):
            if kind == 4:
                sqes += header[:64]
                if header[0] == 0x7F and header[4] == 1:
                    connect += data
        cqes = b""
        for kind, header, _ in pdus(open(f"{name}.ctrl", "rb").read()):
            if kind == 5:
                cqes += header[:16]
        for suffix, content in (("sqes", sqes), ("cqes", cqes), ("connect", connect)):
            open(f"{name}.{suffix}", "wb").write(content)


if sys.argv[1] == "split":
    split(sys.argv[2])
else:
    tap(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
