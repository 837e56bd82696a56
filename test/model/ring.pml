/* ring.pml: the hint ring, with processes killed at any step.
 *
 * What is modelled   ring.hpp: push() by any number of pushers (PUSHERS 2), or put() and publish() by one
 *                    (PUT); pop() by two poppers. Positions count from the capacity on, and a cell's cycle
 *                    says which lap filled it, as there.
 * Processes          pushers, which push VALUES values each and wait when the ring is full; poppers, which
 *                    wait when it is empty: with push() for any change, with put() for `tail`, which is
 *                    what a sleeper goes by; a killer, who may take one pusher and one popper, KILLS in
 *                    all. The only user of put(), the dispatcher, is not killed: all ends with it.
 * Properties         a value comes out at most once, and those of one pusher in their order (assertions);
 *                    what was pushed comes out, so that nobody waits at the end (invalid end state). A
 *                    retry waits until what made it retry has changed: one that could not make progress
 *                    shows as an invalid end state too.
 * Bounds             cycles do not wrap, and are 32 bits wide in the code, where this needs 2^32 laps.
 * Memory order       sequentially consistent. The code's loads are acquire, and its changes compare-and-swap,
 *                    so that only publish()'s store could be late; being late, it lets poppers see cells
 *                    before `tail` shows them, as they may here too.
 * Mutants            see run.py.
 */
#ifndef CELLS
#define CELLS 2
#endif
#ifndef PUSHERS
#define PUSHERS 2
#endif
#ifndef VALUES
#define VALUES 2
#endif
#ifndef KILLS
#define KILLS 0
#endif
#define POPPERS 2
#ifdef PUT
#define WRITERS 1
#else
#define WRITERS PUSHERS
#endif

byte cycle[CELLS], value[CELLS]; /* one 64-bit word */
byte head = CELLS;
byte tail = CELLS;

bit pusher_doomed, popper_doomed; /* number 0 of each */

/* Only for the properties. A value is 1 + pusher * VALUES + its number. */
byte ended, pushed, popped;
byte last[WRITERS];
#define ALL_DONE (ended == WRITERS && popped == pushed)

#define NEXT_VALUE (1 + id * VALUES + i)

/* What a round leaves in local variables would only tell states apart. */
#define forget() d_step { t = 0; h = 0; c = 0; done = 0 }

proctype pusher(byte id) {
    byte t, h, c, i;
    bit done;
    {
        do
        :: i < VALUES ->
            t = tail;
            h = head;
            if
#ifdef BUG_UNSIGNED
            :: t - h >= CELLS || t < h ->
#else
            :: t - h >= CELLS ->
#endif
                /* Full: the caller does something else. */
                atomic { tail != t || head != h -> forget() }
            :: else ->
                c = cycle[t % CELLS];
                if
                :: c == t / CELLS ->
#ifndef BUG_NO_HELP
                    atomic { if :: tail == t -> tail = t + 1 :: else fi };
#endif
                    atomic { tail != t -> forget() }
                :: c + 1 == t / CELLS ->
                    d_step {
#ifdef BUG_CELL_BY_STORE
                        if
                        :: true ->
#else
                        if
                        :: cycle[t % CELLS] == c ->
#endif
                            cycle[t % CELLS] = t / CELLS;
                            value[t % CELLS] = NEXT_VALUE;
                            pushed++;
                            i++;
                            done = 1
                        :: else -> done = 0
                        fi
                    };
                    if
                    :: done -> atomic { if :: tail == t -> tail = t + 1 :: else fi; forget() }
                    :: else -> forget()
                    fi
                :: else -> atomic { tail != t -> forget() }
                fi
            fi
        :: else -> break
        od
    } unless { pusher_doomed && id == 0 };
    ended++
}

#ifdef PUT
/* put() up to a full ring or as many as it likes, then publish(). */
proctype dispatcher() {
    byte i, own_tail = CELLS, seen_head = CELLS;
#define id 0
    do
    :: i < VALUES ->
        if
        :: own_tail - seen_head >= CELLS -> seen_head = head
        :: else
        fi;
        if
#ifdef BUG_NO_FULL_CHECK
        :: false
        :: true ->
#else
        :: own_tail - seen_head >= CELLS ->
#ifndef BUG_NO_PUBLISH_WHEN_FULL
            tail = own_tail;
#endif
            head != seen_head
        :: else ->
#endif
            d_step {
                cycle[own_tail % CELLS] = own_tail / CELLS;
                value[own_tail % CELLS] = NEXT_VALUE;
                pushed++;
                i++;
                own_tail++
            };
            if :: tail = own_tail :: i < VALUES fi
        fi
    :: else -> break
    od;
    ended++
#undef id
}
#endif

proctype popper(byte id) {
    byte h, c, v;
    {
        do
        :: h = head;
            d_step { c = cycle[h % CELLS]; v = value[h % CELLS] };
            if
            :: c == h / CELLS ->
                d_step {
#ifdef BUG_HEAD_BY_STORE
                    if
                    :: true ->
#else
                    if
                    :: head == h ->
#endif
                        head = h + 1;
                        popped++;
                        assert(last[(v - 1) / VALUES] < v);
                        last[(v - 1) / VALUES] = v
                    :: else
                    fi;
                    c = 0;
                    v = 0;
                    h = 0
                }
            :: c + 1 == h / CELLS -> /* empty */
                if
                :: ALL_DONE -> break
#ifdef PUT
                :: d_step { tail > head -> c = 0; v = 0; h = 0 }
#else
                :: d_step { head != h || cycle[h % CELLS] != c -> c = 0; v = 0; h = 0 }
#endif
                fi
            :: else -> d_step { head != h -> c = 0; v = 0; h = 0 }
            fi
        od
    } unless { popper_doomed && id == 0 }
}

active proctype killer() {
    byte kills;
    do
#ifndef PUT
    :: kills < KILLS && !pusher_doomed -> pusher_doomed = 1; kills++
#endif
    :: kills < KILLS && !popper_doomed -> popper_doomed = 1; kills++
    :: break
    od
}

init {
    byte i;
    atomic {
#ifdef PUT
        run dispatcher();
#else
        do :: i < PUSHERS -> run pusher(i); i++ :: else -> break od;
        i = 0;
#endif
        do :: i < POPPERS -> run popper(i); i++ :: else -> break od
    };
    ALL_DONE
}
