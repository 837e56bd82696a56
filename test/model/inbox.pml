/* inbox.pml: what does not fit a worker's inbox waits with the dispatcher and is not forgotten.
 *
 * What is modelled   pool_submit.cpp (locked_post, locked_flush_inbox, locked_flush_inboxes), pool.cpp
 *                    (dispatch: flush, announce, flush again, block), worker.cpp (take_inbox, sleep),
 *                    lane.hpp (cursors and published indices on both sides).
 * Processes          the application, which posts MESSAGES messages and sleeps in between, as often as it
 *                    likes; one worker, which takes its inbox whenever it likes and sleeps; an inbox of
 *                    CELLS cells; a poster, another thread of the application, which posts under the mutex
 *                    while the application may be blocked.
 * Properties         messages arrive in order (assertion); when nobody can go on, all of them have arrived:
 *                    else worker or application block at the end with overflow left, which is an invalid
 *                    end state.
 * Memory order       sequentially consistent, as Spin is; the code has seq_cst operations in all places that
 *                    matter here: `inbox_waiting` against the lane's head, tail against the sleeping bit,
 *                    head against the application's flag. The head's store is modelled with a store buffer
 *                    in the mutant BUG_RELAXED_HEAD. Deaths are not modelled: a successor's lanes begin
 *                    anew, and what waited for its predecessor is void.
 * Mutants            BUG_NO_SECOND_PUSH, BUG_NO_SECOND_FLUSH, BUG_RELAXED_HEAD, BUG_NO_WAITING_LOOK,
 *                    BUG_NO_SECOND_LOOK.
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef POSTED /* of them, by the other thread */
#define POSTED 1
#endif
#ifndef CELLS
#define CELLS 1
#endif

/* The lane: contents are the messages' numbers, which say whether the order holds. */
byte cell[CELLS];
byte tail, head;         /* as published */
byte cursor;             /* the writer's */
bit waiting;             /* WorkerRecord::inbox_waiting */

bit asleep, token;       /* the worker's */
bit app_sleeps, app_token;

/* Private to the dispatcher, under its mutex. */
bit mutex;
byte posted;             /* messages that locked_post() was given */
byte next_push;          /* the first that is not in the lane: posted - next_push are in overflow */
bit overflow;
bit armed, token_due;

byte taken;              /* by the worker */

#define lock() atomic { !mutex -> mutex = 1 }
#define unlock() mutex = 0
#define LEFT (next_push < posted)

/* LaneWriter::push() for as long as there is room and something left. */
inline push_all() {
    do
    :: LEFT && cursor - head < CELLS ->
        d_step {
            cell[cursor % CELLS] = next_push;
            next_push++;
            cursor++
        };
        tail = cursor
    :: else -> break
    od
}

inline flush_inbox() {
    push_all();
    if
    :: LEFT ->
        waiting = 1;
#ifndef BUG_NO_SECOND_PUSH
        push_all();
#endif
        if :: LEFT -> overflow = 1 :: else -> waiting = 0 fi
    :: else -> waiting = 0
    fi
}

inline wake_worker() {
    if :: atomic { asleep -> asleep = 0 }; token = 1 :: else fi
}

inline flush_inboxes() {
    if
    :: overflow -> overflow = 0; flush_inbox(); wake_worker()
    :: else
    fi
}

inline post() {
    posted++;
    flush_inbox(); /* the direct push is its first step */
    wake_worker()
}

active proctype application() {
    bit was_armed;
    byte mine;
    do
    :: taken == MESSAGES -> break
    :: else ->
        lock();
        do
        :: mine < MESSAGES - POSTED -> post(); mine++
        :: break
        od;
        was_armed = armed;
        if
        :: armed ->
            armed = 0;
            if :: atomic { app_sleeps -> app_sleeps = 0 } :: else -> token_due = 1 fi
        :: else
        fi;
        d_step {
            if :: (was_armed || token_due) && app_token -> app_token = 0; token_due = 0 :: else fi;
            was_armed = 0
        };
        flush_inboxes();
        app_sleeps = 1;
#ifndef BUG_NO_SECOND_FLUSH
        flush_inboxes();
#endif
        armed = 1;
        unlock();
        if
        :: app_token                  /* its eventfd is readable */
        :: mine < MESSAGES - POSTED /* or something else woke its loop */
        :: taken == MESSAGES
        fi
    od
}

active proctype poster() {
    byte mine;
    do
    :: mine < POSTED -> lock(); post(); unlock(); mine++
    :: else -> break
    od
}

/* wake_application() of the worker. */
inline wake_application() {
    if
    :: app_sleeps -> if :: atomic { app_sleeps -> app_sleeps = 0 }; app_token = 1 :: else fi
    :: else
    fi
}

active proctype worker() {
    byte own; /* its cursor */
    do
    :: own != tail -> /* take_inbox() */
        do
        :: own != tail ->
            d_step { assert(cell[own % CELLS] == taken); own++; taken++ }
        :: else -> break
        od;
#ifdef BUG_RELAXED_HEAD
        if
        :: head = own;
            if :: waiting -> wake_application() :: else fi
        :: if :: waiting -> wake_application() :: else fi;
            head = own
        fi
#else
        head = own;
#ifndef BUG_NO_WAITING_LOOK
        if :: waiting -> wake_application() :: else fi
#endif
#endif
    :: own == tail -> /* sleep() */
        asleep = 1;
        if
#ifndef BUG_NO_SECOND_LOOK
        :: own != tail -> asleep = 0
#endif
        :: else ->
            if
            :: token -> token = 0; asleep = 0
            :: taken == MESSAGES -> break
            fi
        fi
    od
}
