"""The rules of the work list, without processes: who holds a picture, and what a death changes."""

from __future__ import annotations

import random

from demo.readings import Reading
from demo.worklist import MAX_DEATHS, Lease, WorkList


def work_list(count: int = 3, room: int = 2) -> WorkList[str]:
    return WorkList([f"{n}.png" for n in range(count)], room)


def take_path(work: WorkList[str], worker: str = "decoder") -> Lease:
    lease = work.lend_path(worker)
    assert lease is not None
    return lease


def take_picture(work: WorkList[str], worker: str = "reader") -> tuple[Lease, str]:
    lent = work.lend_picture(worker)
    assert lent is not None
    return lent


def decode_one(work: WorkList[str], worker: str = "decoder") -> None:
    lease = take_path(work, worker)
    work.decoded(lease, f"pixels of {lease.path}")


def test_a_picture_goes_from_path_to_reading() -> None:
    work = work_list(count=1)
    decode_one(work)
    lease, pixels = take_picture(work, "reader")
    assert pixels == "pixels of 0.png"
    assert not work.all_done
    work.finish(lease, Reading("0.png"))
    assert work.all_done
    assert work.readings == [Reading("0.png")]


def test_no_path_is_lent_while_enough_decoded_pictures_wait() -> None:
    work = work_list(count=5, room=2)
    first = take_path(work, "decoder-1")
    take_path(work, "decoder-2")
    assert work.lend_path("decoder-3") is None, "two are being decoded"
    work.decoded(first, "pixels")
    assert work.lend_path("decoder-3") is None, "one waits, one is being decoded"
    take_picture(work, "reader")
    assert work.paths_to_lend == 1


def test_what_a_dead_reader_held_is_lent_again_without_decoding() -> None:
    work = work_list(count=1)
    decode_one(work)
    take_picture(work, "reader-1")
    assert work.give_back("reader-1") == 1
    lease, pixels = take_picture(work, "reader-2")
    assert (lease.path, pixels) == ("0.png", "pixels of 0.png")


def test_what_a_dead_decoder_held_is_decoded_first_of_all() -> None:
    work = work_list()
    take_path(work, "decoder-1")
    take_path(work, "decoder-2")
    assert work.give_back("decoder-1") == 1
    assert take_path(work, "decoder-2").path == "0.png"


def test_a_late_report_under_a_lease_taken_back_counts_for_nothing() -> None:
    work = work_list(count=1)
    decode_one(work)
    late, _ = take_picture(work, "reader-1")
    work.give_back("reader-1")
    work.finish(late, Reading("0.png", width=1))
    lease, _ = take_picture(work, "reader-2")
    work.finish(lease, Reading("0.png", width=2))
    work.finish(lease, Reading("0.png", width=3))
    assert work.readings == [Reading("0.png", width=2)]


def test_a_lost_picture_is_decoded_again() -> None:
    work = work_list(count=1)
    decode_one(work)
    lease, _ = take_picture(work, "reader")
    work.lost(lease)
    assert work.lend_picture("reader") is None
    decode_one(work)
    assert work.pictures_to_lend == 1


def test_a_picture_that_kills_its_readers_is_given_up() -> None:
    work = work_list(count=1)
    decode_one(work)
    for _ in range(MAX_DEATHS):
        take_picture(work, "reader")
        work.give_back("reader")
    assert work.all_done
    [reading] = work.readings
    assert reading.error is not None and "given up" in reading.error


def test_whatever_dies_each_picture_is_done_exactly_once() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        work = work_list(count=12, room=3)
        decoding: list[Lease] = []
        reading: list[Lease] = []
        while not work.all_done:
            worker = f"worker-{chance.randrange(4)}"
            if chance.random() < 0.1:
                work.give_back(worker)  # its leases stay in our lists, and are reported late
            elif decoding and chance.random() < 0.5:
                lease = decoding.pop(chance.randrange(len(decoding)))
                work.decoded(lease, lease.path)
            elif reading and chance.random() < 0.5:
                lease = reading.pop(chance.randrange(len(reading)))
                if chance.random() < 0.1:
                    work.lost(lease)
                else:
                    work.finish(lease, Reading(lease.path))
            elif work.paths_to_lend:
                decoding.append(take_path(work, worker))
            elif work.pictures_to_lend:
                reading.append(take_picture(work, worker)[0])
        assert sorted(done.path for done in work.readings) == sorted(f"{n}.png" for n in range(12)), (
            f"{seed=}"
        )
