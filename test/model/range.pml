/* range.pml: a chunk of ITEMS items in one slot: started, withdrawn, split, delivered, run again.
 *
 * What is modelled   slots.hpp (start_item, withdraw_unstarted, publish_ready), worker.cpp (start, room_in,
 *                    complete, finish_job), pool_collect.cpp (locked_take_many while the claimer works, when
 *                    it is done, and when it is dead), pool_split.cpp (the cut), recovery.cpp.
 * Processes          a worker, which runs CONCURRENT items of its chunk at a time and ends them in any
 *                    order; the dispatcher, which delivers what is published at any moment (progress), cuts
 *                    the range CUTS times (a withdrawal takes all unstarted items, a split their upper
 *                    half) and, when the kernel has confirmed a death, recovers and respawns; a killer with
 *                    KILLS kills, between any two steps of the worker. A cut item's outcome is CANCELLED, or
 *                    comes from another slot; here it is given at the cut.
 * Properties         every item has exactly one outcome when the slot is free; an item starts only while it
 *                    has none, and at most once per attempt, of which there are RETRIES + 1; a slot that is
 *                    DONE has an outcome for all that it was left with (assertions).
 * Memory             the worker's arena is dirty: what an earlier attempt published is still where the next
 *                    one's outcome words will lie.
 * Memory order       sequentially consistent. In the code the range word changes by compare-and-swap only;
 *                    outcome words, block and slot word are published by release stores in this order, which
 *                    stay in order on their way, so that a store buffer could only delay them all. The
 *                    mutants change the order where it matters.
 * Mutants            see run.py.
 */
#ifndef ITEMS
#define ITEMS 3
#endif
#ifndef CONCURRENT
#define CONCURRENT 2
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef KILLS
#define KILLS 1
#endif
#ifndef RETRIES
#define RETRIES 0
#endif

mtype = { FREE, READY, CLAIMED, DONE };

mtype phase = READY;
byte next, end = ITEMS;  /* one word */
bit named;               /* block_offset: 0, or the block whose outcome words are `head` */
bit head[ITEMS] = 1;     /* 1: published; by position from item_base on */

/* The request, which workers read. */
byte item_base;
byte attempt = 1;
bit passed[ITEMS];       /* the skip list */

/* The dispatcher's record. */
byte upto = ITEMS;
bit delivered[ITEMS];

bit doomed, gone;
byte kills;

/* Only for the properties. */
byte outcomes[ITEMS];
byte started_in[ITEMS];  /* the last attempt that started it */
bit ended[ITEMS];

#define give(item)           \
    outcomes[item]++;        \
    assert(outcomes[item] == 1)

#define give_published(item) \
    delivered[item] = 1;     \
    assert(ended[item]);     \
    give(item)

/* --- worker ------------------------------------------------------------------------------------ */

inline runs(item) {
    d_step {
        assert(outcomes[item] == 0 && started_in[item] < attempt);
        started_in[item] = attempt;
        running[item] = 1
    }
}

/* CLAIMED → DONE when all that has started has finished and nothing is left. */
inline finish_job() {
    phase = DONE;
    break
}

proctype worker() {
    byte i, n, e, started, finished;
    bit running[ITEMS];
    bit mine; /* it has its outcome block */
    {
        do
        :: atomic { phase == READY -> phase = CLAIMED };
            d_step { started = 0; finished = 0; mine = 0 };
            do
            :: started - finished < CONCURRENT -> /* start() */
                if
                :: started == 0 && next >= end /* nothing of it needs a block */
                :: else ->
                    if
                    :: !mine -> /* room_in() */
                        mine = 1;
#ifdef BUG_NAMED_BEFORE_ZEROED
                        named = 1;
#endif
                        d_step {
#ifndef BUG_NOT_ZEROED
                            do :: i < ITEMS - item_base -> head[i] = 0; i++ :: else -> break od;
#endif
                            i = 0
                        };
#ifndef BUG_NAMED_BEFORE_ZEROED
                        named = 1
#endif
                    :: else
                    fi
                fi;
#ifdef BUG_STARTED_BEFORE_NEXT
                n = next;
                if
                :: n < end && !passed[n] -> runs(n); next = n + 1; started++
                :: else -> if :: finished == started -> finish_job() :: else -> goto finish_one fi
                fi
#else
                d_step { n = next; e = end };
                if
                :: n < e ->
                    if
#ifdef BUG_NEXT_BY_STORE
                    :: d_step { next = n + 1; end = e };
#else
                    :: atomic { next == n && end == e -> next = n + 1 };
#endif
                        started++;
                        if
#ifndef BUG_NO_SKIP
                        :: passed[n] -> finished++
#endif
                        :: else -> runs(n)
                        fi
                    :: else /* the dispatcher was faster: again */
                    fi
                :: else ->
                    if :: finished == started -> finish_job() :: else -> goto finish_one fi
                fi
#endif
            :: started > finished -> /* complete() */
finish_one:     if
                :: running[0] -> i = 0
                :: running[1] -> i = 1
#if ITEMS > 3
                :: running[2] -> i = 2
#endif
                :: running[ITEMS - 1] -> i = ITEMS - 1
                fi;
                ended[i] = 1;
                head[i - item_base] = 1;
                d_step { running[i] = 0; finished++; i = 0 };
                if
                :: finished == started && next >= end -> finish_job()
                :: else
                fi
            od
        :: phase == FREE -> break
        od
    } unless { doomed };
    if :: doomed -> gone = 1 :: else fi
}

active proctype killer() {
    do
    :: kills < KILLS && !doomed && phase != FREE -> kills++; doomed = 1
    :: break
    od
}

/* --- dispatcher --------------------------------------------------------------------------------- */

/* Takes what is published and not delivered, one word at a time. */
inline deliver_published() {
    j = item_base;
    do
    :: j < upto ->
        d_step {
            if
            :: named && head[j - item_base] && !delivered[j] -> give_published(j)
            :: else
            fi
        };
        j++
    :: else -> break
    od;
    j = 0
}

/* Lowers `end` to `to`, by CAS against the worker's `next`. */
inline cut_to(upper_half) {
    d_step {
        n = next;
        e = end;
        m = (upper_half -> n + (e - n + 1) / 2 : n)
    };
    if
    :: n < e && m < e ->
        if
#ifdef BUG_END_BY_STORE
        :: d_step { next = n; end = m };
#else
        :: atomic { next == n && end == e -> end = m };
#endif
            d_step {
                j = m;
                do :: j < upto -> give(j); j++ :: else -> break od;
                upto = m;
                j = 0
            }
        :: else /* started meanwhile: the code tries again, here it is another cut */
        fi
    :: else
    fi;
    d_step { n = 0; e = 0; m = 0 }
}

inline take_done() {
    d_step {
        j = item_base;
        do
        :: j < upto ->
            if
            :: delivered[j]
            :: else -> assert(named && head[j - item_base]); give_published(j)
            fi;
            j++
        :: else -> break
        od;
        j = 0
    };
    phase = FREE
}

/* The worker is dead: nobody else touches the slot, so this is one step. */
inline recover_claimed() {
    d_step {
#ifndef BUG_LOST_BEFORE_PUBLISHED
        j = item_base;
        do
        :: j < upto ->
            if
            :: named && head[j - item_base] && !delivered[j] -> give_published(j)
            :: else
            fi;
            j++
        :: else -> break
        od;
#endif
        /* Started and lost. */
        j = item_base;
        n = next;
        do
        :: j < next && j < upto ->
            if
            :: !delivered[j] && attempt <= RETRIES -> if :: j < n -> n = j :: else fi
            :: !delivered[j] && attempt > RETRIES -> delivered[j] = 1; give(j)
            :: else
            fi;
            j++
        :: else -> break
        od;
#ifdef BUG_LOST_BEFORE_PUBLISHED
        j = item_base;
        do
        :: j < upto ->
            if :: named && head[j - item_base] -> give_published(j) :: else fi;
            j++
        :: else -> break
        od;
#endif
        if
        :: n >= upto -> phase = FREE
        :: else ->
            if
            :: n < next ->
                attempt++;
                j = n;
                do :: j < next -> passed[j] = delivered[j]; j++ :: else -> break od
            :: else
            fi;
            item_base = n;
            next = n;
            end = upto;
#ifndef BUG_STALE_BLOCK
            named = 0;
#endif
            phase = READY
        fi;
        j = 0;
        n = 0
    }
}

active proctype dispatcher() {
    byte j, n, e, m, cuts;
    run worker();
    do
    :: phase == CLAIMED && named -> deliver_published()
    :: phase == CLAIMED && cuts < CUTS && RETRIES == 0 -> cuts++; cut_to(0)
    :: phase == CLAIMED && cuts < CUTS && attempt == 1 -> cuts++; cut_to(1)
    :: phase == DONE -> take_done()
    :: gone ->
        if
        :: phase == CLAIMED -> recover_claimed()
        :: phase == DONE -> take_done()
        :: else
        fi;
        d_step { gone = 0; doomed = 0 };
        run worker()
    :: phase == FREE -> break
    od;
    end = 0;
    d_step {
        j = 0;
        do :: j < ITEMS -> assert(outcomes[j] == 1); j++ :: else -> break od
    }
}
