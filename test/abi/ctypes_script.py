"""A pool and its worker with ctypes alone: prints 42, which the worker has made of 21."""

import ctypes
import os
import select
import struct
import sys

lib, handle, number = ctypes.CDLL("libaiomq.so.0"), ctypes.c_void_p(), ctypes.c_uint32()
room = ctypes.create_string_buffer(200)  # for options, a job, a completion; see aiomq.h
if "AIOMQ_WORKER" in os.environ:
    assert lib.aiomq_worker_open(ctypes.byref(handle), None, 0) == lib.aiomq_worker_ready(handle)
    while (claimed := lib.aiomq_worker_claim(handle, room, 1)) >= 0:
        job, integer = struct.unpack_from("8xI20xq", room)
        if claimed == 1 and lib.aiomq_worker_start(handle, job, ctypes.byref(number)) == 0:
            lib.aiomq_worker_complete(handle, job, struct.pack("IHHQq", 0, 1, 2, 0, 2 * integer))
        elif lib.aiomq_worker_sleep(handle, 1) == 0:
            select.select([lib.aiomq_worker_fd(handle)], [], [])
            lib.aiomq_worker_wake(handle, 1)
else:
    lib.aiomq_pool_options_init(room, 200)
    argv = (ctypes.c_char_p * 3)(sys.executable.encode(), __file__.encode())
    struct.pack_into("P", room, 24, ctypes.addressof(argv))
    assert lib.aiomq_pool_create(room, ctypes.byref(handle)) == 0
    lib.aiomq_pool_function(handle, b"double", ctypes.byref(number))
    task = struct.pack("IIIHHIIQqPQ3Q", 80, 0, number.value, 2, 0, 1, 0, 0, 21, 0, 0, 0, 0, 0)
    assert lib.aiomq_pool_submit(handle, task, None) == 0
    while lib.aiomq_pool_collect(handle, room, 1) == 0:
        lib.aiomq_pool_wait(handle, ctypes.c_uint64(-1))
    print(*struct.unpack_from("q", room, 64))
