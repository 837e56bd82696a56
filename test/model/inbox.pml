/* inbox.pml: what does not fit a worker's inbox waits with the dispatcher and is not forgotten.
 *
 * What is modelled   pool_submit.cpp (locked_post, locked_flush_inbox, locked_flush_inboxes), pool.cpp
 *                    (locked_drain_lanes), supervisor.cpp (on_signal), worker*.cpp (take_inbox, sleep), lane.hpp
 *                    (cursors and published indices on both sides).
 * Processes          the application, which posts MESSAGES messages and then does nothing: it may be busy,
 *                    or block for something else; the supervisor, which looks when it is woken; one worker,
 *                    which takes its inbox whenever it likes and sleeps; an inbox of CELLS cells. The
 *                    application's own look, in dispatch(), would only help.
 * Properties         messages arrive in order (assertion); when nobody can go on, all of them have arrived:
 *                    else the worker blocks at the end with overflow left, which is an invalid end state.
 * Memory order       sequentially consistent, as Spin is; the code has seq_cst operations in all places that
 *                    matter here: `inbox_waiting` against the lane's head, tail against the sleeping bit.
 *                    The head's store is modelled with a store buffer in the mutant BUG_RELAXED_HEAD.
 *                    Deaths are not modelled: a successor's lanes begin anew, and what waited for its
 *                    predecessor is void.
 * Mutants            see run.py. BUG_TELL_APPLICATION: the worker wakes who may not look.
 */
#ifndef MESSAGES
#define MESSAGES 3
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
bit supervisor_token;

/* Private to the dispatcher, under its mutex. */
bit mutex;
byte posted;             /* messages that locked_post() was given */
byte next_push;          /* the first that is not in the lane: posted - next_push are in overflow */
bit overflow;

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
    :: overflow ->
        overflow = 0;
        if :: LEFT -> flush_inbox(); wake_worker() :: else fi
    :: else
    fi
}

/* locked_post(): straight into the lane unless others wait already, and then as many as fit. */
inline post() {
    posted++;
    if
    :: next_push + 1 == posted && cursor - head < CELLS ->
        d_step { cell[cursor % CELLS] = next_push; next_push++; cursor++ };
        tail = cursor
    :: else -> flush_inbox()
    fi;
    wake_worker()
}

active proctype application() {
    do
    :: posted < MESSAGES -> lock(); post(); unlock()
    :: else -> break
    od
}

active proctype supervisor() {
end_idle:
    do
    :: supervisor_token -> supervisor_token = 0; lock(); flush_inboxes(); unlock()
    od
}

#ifdef BUG_TELL_APPLICATION
#define tell() skip
#else
#define tell() supervisor_token = 1
#endif

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
            if :: waiting -> tell() :: else fi
        :: if :: waiting -> tell() :: else fi;
            head = own
        fi
#else
        head = own;
#ifndef BUG_NO_WAITING_LOOK
        if :: waiting -> tell() :: else fi
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
