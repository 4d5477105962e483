"""Values of ctypes types, which other processes cannot import, travel as others do."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import processes

PROGRAM = """
import ctypes
import skate

class Point(ctypes.Structure):
    "A point."
    unit = "mm"
    _pack_ = 1
    _fields_ = [("kind", ctypes.c_char), ("x", ctypes.c_int), ("weights", ctypes.c_double * 2)]

    def total(self):
        return self.x + sum(self.weights)

class Point3(Point):
    _fields_ = [("z", ctypes.c_int)]

    def total(self):
        return super().total() + self.z

class Node(ctypes.Structure):
    pass

Node._fields_ = [("value", ctypes.c_int), ("next", ctypes.POINTER(Node))]

class Number(ctypes.Union):
    _fields_ = [("i", ctypes.c_int), ("f", ctypes.c_float)]

class Swapped(ctypes.BigEndianStructure):
    _fields_ = [("i", ctypes.c_int)]

@skate.remote
def back(value):
    return value

@skate.remote
def total(point):
    return point.total(), type(point).__name__, type(point).__doc__, type(point).unit, ctypes.sizeof(point)

@skate.remote
def node():
    one = Node(3)
    one.next = ctypes.pointer(Node(4))
    return one.next.contents.value

@skate.remote
def make(count):
    return (ctypes.c_double * count)(*range(count))

MODE

for array in ((ctypes.c_int * 3)(1, 2, 3), (ctypes.c_double * 200_000)(1), ctypes.create_string_buffer(b"hi")):
    for one in (skate.get(back.remote(array)), skate.get(back.remote([array]))[0], skate.get(skate.put(array))):
        assert type(one) is type(array) and bytes(one) == bytes(array)
        one[0] = array[1]
grid = skate.get(back.remote(((ctypes.c_int * 2) * 2)((1, 2), (3, 4))))
assert [list(row) for row in grid] == [[1, 2], [3, 4]]
assert [skate.get(make.remote(n))[n - 1] for n in (3, 200_000)] == [2.0, 199_999.0]
assert skate.get(total.remote(Point(b"p", 5, (1, 2)))) == (8.0, "Point", "A point.", "mm", 21)
assert skate.get(total.remote(Point3(b"p", 5, (1, 2), 4)))[:2] == (12.0, "Point3")
for value in (Point(b"p", 5), Number(3), Swapped(7), (Point * 2)()):
    one = skate.get(back.remote(value))
    assert type(one) is type(value) and bytes(one) == bytes(value)
assert skate.get(back.remote(Swapped(7))).i == 7
assert skate.get(node.remote()) == 4
assert skate.get(back.remote(ctypes.c_int(5))).value == 5
try:
    back.remote(Node(1))
except TypeError as error:
    assert "pointers cannot be pickled" in str(error)
print("all right")
"""


@pytest.mark.parametrize("mode", ["skate.init(num_cpus=1)", "skate.init(mode='inline')"])
def test_they_travel(tmp_path: Path, mode: str) -> None:
    done = processes.run_driver(tmp_path, PROGRAM.replace("MODE", mode))
    assert (done.returncode, done.stdout, done.stderr) == (0, "all right\n", "")
