/* nested.pml: tasks that workers submit and wait for.
 *
 * What is modelled   pool_nested.cpp (locked_take_request, locked_retry_nested, locked_submit_nested,
 *                    locked_end_request, locked_answer, locked_take_return, locked_forget_worker),
 *                    worker_nested.cpp (post, flush_outbox, submit, collect, give_back), worker*.cpp (tell,
 *                    settle, sleep), pool_collect.cpp (collect, locked_rescan), pool.cpp
 *                    (locked_drain_lanes), recovery.cpp. Tasks of one item.
 * Processes          WORKERS workers that run one item at a time; the application, which submits CHAINS
 *                    tasks, each the first of a chain of DEPTH in which one waits for the next, and LEAVES
 *                    tasks that ask for nothing, through SLOTS slots of which RESERVED are kept; with
 *                    COLLECTS=0 it never collects and may stop to submit; the supervisor, which drains the
 *                    lanes when it is woken, and recovers; a killer with KILLS kills, between any two steps of a worker. An outbox
 *                    holds LANE messages, the request arena MEMORY blocks: one per answer, from the submit
 *                    on, and one per task of the application.
 * Properties         every task has at most one outcome and starts at most once (assertions); nobody waits
 *                    for ever: a worker that sleeps while one of its items waits for an answer, an
 *                    application that collects and has not got everything, or slots and memory that do not
 *                    come back are invalid end states.
 * Left out           the sleeping of the application and the wake-ups for hints, which claim.pml shows: it
 *                    looks whenever there is something, and a hint wakes all who sleep. An inbox always has
 *                    room, see inbox.pml. Requests of more than one task; progress; payloads that are kept.
 * Memory order       sequentially consistent; the code has seq_cst operations where a side stores and then
 *                    looks: `outbox_waiting` against the lane's head, `nested_waiting` against its tail.
 * Mutants            each takes one thing away and must fail; run.py has the list.
 */
#ifndef WORKERS
#define WORKERS 1
#endif
#ifndef CHAINS
#define CHAINS 1
#endif
#ifndef DEPTH
#define DEPTH 2
#endif
#ifndef LEAVES
#define LEAVES 0
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef RESERVED
#define RESERVED 1
#endif
#ifndef LANE
#define LANE 1
#endif
#ifndef MEMORY
#define MEMORY SLOTS
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef COLLECTS
#define COLLECTS 1
#endif
#define ROOTS (CHAINS + LEAVES)
#define TASKS (CHAINS * DEPTH + LEAVES)
#define NONE 255

/* Task t of a chain waits for t + 1. */
#define NESTED(t) ((t) < CHAINS * DEPTH && (t) % DEPTH > 0)
#define PARENT(t) ((t) < CHAINS * DEPTH && (t) % DEPTH < DEPTH - 1)
#define FIRST (LEAVES > 1) /* of several leaves one comes before the chains */
#define ROOT(n)                                                        \
    ((n) >= FIRST && (n) < CHAINS + FIRST -> ((n) - FIRST) * DEPTH      \
                                          : CHAINS * DEPTH + (n < FIRST -> 0 : (n) - CHAINS))

mtype = { FREE, READY, CLAIMED, DONE };     /* slots */
mtype = { TOLD, SUBMIT, RETURN };           /* worker → dispatcher */
mtype = { ANSWER, REFUSED };                /* dispatcher → worker */
mtype = { NOTHING, WAITS, ANSWERED };       /* an item that waits, in its worker's memory */

mtype phase[SLOTS];
byte owner[SLOTS];
byte task[SLOTS];
bit started[SLOTS];
chan ring = [2 * SLOTS] of { byte };

chan outbox[WORKERS] = [LANE] of { mtype, byte };
chan backlog[WORKERS] = [TASKS * 2] of { mtype, byte }; /* private to the worker */
bit outbox_waiting[WORKERS];
bit rescan[WORKERS];
bit nested_waiting;         /* Header: requests wait for room */
chan inbox[WORKERS] = [TASKS] of { mtype, byte };

bit asleep[WORKERS];
bit token[WORKERS];
bit supervisor_token;
mtype item[SLOTS] = NOTHING;

/* Private to the dispatcher, under its mutex. */
bit mutex;
bit alive[WORKERS] = 1;
chan requests = [TASKS] of { byte };
byte asker[TASKS] = NONE;   /* who gets the answer */
bit parent[SLOTS];          /* it has nested tasks under way */
bit given[TASKS];           /* an answer that its owner has not given back */
byte in_use, memory, submitted, roots_ended;

bit doomed[WORKERS];
bit gone[WORKERS];
byte kills;

/* Only for the properties. */
bit ran[TASKS];
bit has_outcome[TASKS];

#define end_task(t)           \
    assert(!has_outcome[t]);  \
    has_outcome[t] = 1;       \
    roots_ended = roots_ended + (NESTED(t) -> 0 : 1)

/* --- worker ------------------------------------------------------------------------------------ */

inline put_all(w) {
    do
    :: atomic { nempty(backlog[w]) && nfull(outbox[w]) -> backlog[w]?m,t; outbox[w]!m,t; m = 0; t = 0 }
    :: empty(backlog[w]) || full(outbox[w]) -> break
    od
}

inline flush_outbox(w) {
    put_all(w);
    if
    :: len(backlog[w]) > 0 ->
        outbox_waiting[w] = 1;
        put_all(w)
    :: else
    fi;
    if
    :: len(backlog[w]) > 0 ->
#ifndef BUG_LEFT_UNTOLD
        supervisor_token = 1
#endif
    :: len(backlog[w]) == 0 && outbox_waiting[w] ->
        outbox_waiting[w] = 0;
        supervisor_token = 1
    :: else
    fi
}

#if defined(BUG_TELL_APPLICATION)
#define FOR_SUPERVISOR(t) nested_waiting
#elif defined(BUG_NO_WAITING_LOOK)
#define FOR_SUPERVISOR(t) NESTED(t)
#else
#define FOR_SUPERVISOR(t) (NESTED(t) || nested_waiting)
#endif

/* finish_job(), tell(), settle() */
inline finish(s, w) {
    d_step { t = task[s]; item[s] = NOTHING };
    phase[s] = DONE;
    if :: atomic { nfull(outbox[w]) -> outbox[w]!TOLD,s } :: full(outbox[w]) -> rescan[w] = 1 fi;
    if :: FOR_SUPERVISOR(t) -> supervisor_token = 1 :: else fi;
    t = 0
}

#if SLOTS > 2
#define ANY(what, w) \
    ((item[0] == what && owner[0] == w) || (item[1] == what && owner[1] == w) || \
     (item[2] == what && owner[2] == w))
#else
#define ANY(what, w) ((item[0] == what && owner[0] == w) || (item[1] == what && owner[1] == w))
#endif

#ifdef BUG_KEEPS_PLACE
#define HAS_PLACE(w) (!ANY(WAITS, w))
#else
#define HAS_PLACE(w) true
#endif

proctype worker(byte w) {
    byte s, t;
    mtype m;
    {
        do
        :: atomic { nempty(inbox[w]) -> inbox[w]?m,t };
            d_step {
                do :: !(owner[s] == w && item[s] == WAITS && task[s] + 1 == t) -> s++ :: else -> break od;
                item[s] = ANSWERED;
                s = 0
            };
            if
            :: m == ANSWER ->
                d_step { backlog[w]!RETURN,t; m = 0; t = 0 };
                flush_outbox(w);
                supervisor_token = 1
            :: else
            fi;
            m = 0;
            t = 0
        :: ANY(ANSWERED, w) ->
            do :: !(item[s] == ANSWERED && owner[s] == w) -> s++ :: else -> break od;
            finish(s, w);
            s = 0
        :: HAS_PLACE(w) && nempty(ring) ->
            if
            :: ring?s;
                if
                :: atomic { phase[s] == READY -> phase[s] = CLAIMED; owner[s] = w };
                    atomic { started[s] = 1; assert(!ran[task[s]]); ran[task[s]] = 1 };
                    if
                    :: PARENT(task[s]) ->
                        d_step { item[s] = WAITS; backlog[w]!SUBMIT,task[s] + 1 };
                        flush_outbox(w);
                        supervisor_token = 1
                    :: else -> finish(s, w)
                    fi
                :: else
                fi;
                s = 0
            :: empty(ring)
            fi
        :: empty(inbox[w]) && (empty(ring) || !HAS_PLACE(w)) && !ANY(ANSWERED, w) -> /* sleep() */
            if :: len(backlog[w]) > 0 -> flush_outbox(w) :: else fi;
            asleep[w] = 1;
            if
            :: len(inbox[w]) > 0 || (len(ring) > 0 && HAS_PLACE(w)) -> asleep[w] = 0
            :: else ->
                if
                :: !ANY(WAITS, w) ->
end_asleep:         token[w]
                :: else -> token[w]
                fi;
                d_step { token[w] = 0; asleep[w] = 0 }
            fi
        od
    } unless { doomed[w] };
    d_step {
        s = 0;
        t = 0;
        m = 0;
        do :: nempty(backlog[w]) -> backlog[w]?_,_ :: empty(backlog[w]) -> break od;
        gone[w] = 1
    }
}

active proctype killer() {
    do
    :: kills < KILLS && !doomed[0] -> kills++; doomed[0] = 1
#if WORKERS > 1
    :: kills < KILLS && !doomed[1] -> kills++; doomed[1] = 1
#endif
    :: break
    od
}

/* --- dispatcher, under the mutex ---------------------------------------------------------------- */

#define lock() atomic { !mutex -> mutex = 1 }
#define unlock() mutex = 0

#define wake_all()                                                     \
    k = 0;                                                             \
    do                                                                 \
    :: k < WORKERS -> if :: asleep[k] -> asleep[k] = 0; token[k] = 1 :: else fi; k++ \
    :: else -> break                                                   \
    od;                                                                \
    k = 0

/* A slot is found: its task becomes READY, and all who sleep are woken. */
#define put_in_slot(n)                             \
    k = 0;                                         \
    do :: phase[k] != FREE -> k++ :: else -> break od; \
    task[k] = n;                                   \
    in_use++;                                      \
    phase[k] = READY;                              \
    ring!k;                                        \
    wake_all()

#define leave_parent(n)                                                              \
    k = 0;                                                                           \
    do                                                                               \
    :: k < SLOTS ->                                                                  \
        if :: phase[k] != FREE && task[k] + 1 == n -> parent[k] = 0 :: else fi; k++  \
    :: else -> break                                                                 \
    od;                                                                              \
    k = 0

#define post(w, what, n)                                          \
    inbox[w]!what,n;                                              \
    if :: asleep[w] -> asleep[w] = 0; token[w] = 1 :: else fi

#define parents (parent[0] + parent[1] + (SLOTS > 2 -> parent[SLOTS - 1] : 0))
#ifdef BUG_NEVER_REFUSE
#define HOPELESS false
#else
#define HOPELESS (parents >= in_use)
#endif
#ifdef BUG_ANSWER_LATE
#define ANSWER_BLOCK 0
#else
#define ANSWER_BLOCK 1
#endif
#ifdef BUG_ANSWER_LATE
#define give_answer(n)                                                                       \
    if                                                                                       \
    :: memory < MEMORY -> memory++; given[n] = 1; post(asker[n], ANSWER, n)                  \
    :: else                                                                                  \
    fi
#else
#define give_answer(n) given[n] = 1; post(asker[n], ANSWER, n)
#endif
#define ROOM (in_use < SLOTS && memory + ANSWER_BLOCK <= MEMORY)

#define SOMETHING \
    (len(outbox[0]) > 0 || rescan[0] || len(outbox[WORKERS - 1]) > 0 || rescan[WORKERS - 1])

/* locked_retry_nested(), locked_announce_waiting() */
inline retry_nested() {
    d_step {
        do
        :: len(requests) > 0 && ROOM ->
            requests?n;
            memory = memory + ANSWER_BLOCK;
            put_in_slot(n)
        :: len(requests) > 0 && !ROOM && HOPELESS ->
            requests?n;
            leave_parent(n);
            end_task(n);
            post(asker[n], REFUSED, n);
            asker[n] = NONE
        :: else -> break
        od;
        n = 0
    };
    if
    :: len(requests) > 0 && !nested_waiting ->
        nested_waiting = 1;
#ifndef BUG_NO_SECOND_LOOK
        if :: SOMETHING -> supervisor_token = 1 :: else fi
#endif
    :: len(requests) == 0 && nested_waiting -> nested_waiting = 0
    :: else
    fi
}

/* What slot s held has ended: its answer goes to who asked, and the slot is free. */
#define free_slot(s)                                                        \
    end_task(task[s]);                                                      \
    if                                                                      \
    :: NESTED(task[s]) && asker[task[s]] != NONE ->                         \
        leave_parent(task[s]);                                              \
        give_answer(task[s])                                                \
    :: else -> memory--                                                     \
    fi;                                                                     \
    parent[s] = 0;                                                          \
    started[s] = 0;                                                         \
    in_use--;                                                               \
    phase[s] = FREE

inline take_message() {
    d_step {
        if
        :: m == TOLD -> if :: phase[n] == DONE -> free_slot(n) :: else fi
        :: m == SUBMIT && alive[j] ->
            asker[n] = j;
            k = 0;
            do
            :: k < SLOTS ->
                if :: phase[k] == CLAIMED && owner[k] == j && task[k] + 1 == n -> parent[k] = 1 :: else fi;
                k++
            :: else -> break
            od;
            requests!n
        :: m == RETURN && alive[j] -> given[n] = 0; memory--
        :: else
        fi;
        m = 0;
        n = 0
    }
}

/* The lane of worker j, and what did not fit it. */
inline read_lane() {
    if
    :: rescan[j] ->
        rescan[j] = 0;
        d_step {
            n = 0;
            do
            :: n < SLOTS -> if :: phase[n] == DONE && owner[n] == j -> free_slot(n) :: else fi; n++
            :: else -> break
            od;
            n = 0
        }
    :: else
    fi;
    do
    :: outbox[j]?m,n -> take_message()
    :: empty(outbox[j]) -> break
    od;
#ifndef BUG_NO_OUTBOX_LOOK
    if :: outbox_waiting[j] -> token[j] = 1 :: else fi
#endif
}

inline drain() {
    j = 0;
    do
    :: j < WORKERS -> read_lane(); j++
    :: else -> break
    od;
    j = 0;
    retry_nested()
}

#define KEPT (len(requests) > 0 -> 0 : SLOTS - RESERVED)

active proctype application() {
    byte j, k, n;
    mtype m;
    atomic {
        do :: k < SLOTS -> phase[k] = FREE; k++ :: else -> break od;
        k = 0;
        do :: k < WORKERS -> run worker(k); k++ :: else -> break od;
        k = 0;
        run supervisor()
    };
    do
    :: submitted < ROOTS && in_use < KEPT && memory < MEMORY ->
        lock();
        d_step {
            if
            :: in_use < KEPT && memory < MEMORY ->
                n = ROOT(submitted);
                submitted++;
                memory++;
                put_in_slot(n);
                n = 0
            :: else
            fi
        };
        unlock()
#if COLLECTS
    :: SOMETHING -> lock(); drain(); unlock()
    :: roots_ended == ROOTS -> break
#else
    :: break
#endif
    od;
#if COLLECTS
    in_use == 0 && memory == 0 && empty(requests)
#endif
}

/* locked_recover(), then a successor. */
inline recover(w) {
    d_step {
        alive[w] = 0;
        j = 0;
        do
        :: j < SLOTS ->
            if
            :: phase[j] == DONE && owner[j] == w -> free_slot(j)
            :: phase[j] == CLAIMED && owner[j] == w && started[j] -> free_slot(j)
            :: phase[j] == CLAIMED && owner[j] == w && !started[j] -> phase[j] = READY
            :: else
            fi;
            item[j] = (owner[j] == w -> NOTHING : item[j]);
            j++
        :: else -> break
        od;
        /* locked_forget_worker(): requests, nested tasks, answers */
        n = len(requests);
        do
        :: n > 0 ->
            requests?j;
            if :: asker[j] == w -> asker[j] = NONE; end_task(j) :: else -> requests!j fi;
            n--
        :: else -> break
        od;
        j = 0;
        do
        :: j < SLOTS ->
            if
            :: phase[j] != FREE && NESTED(task[j]) && asker[task[j]] == w ->
                asker[task[j]] = NONE;
                leave_parent(task[j]);
                if :: phase[j] == READY -> free_slot(j) :: else fi
            :: else
            fi;
            j++
        :: else -> break
        od;
        j = 0;
#ifndef BUG_KEEPS_ANSWERS
        do
        :: j < TASKS ->
            if :: given[j] && asker[j] == w -> given[j] = 0; memory-- :: else fi;
            j++
        :: else -> break
        od;
        j = 0;
#endif
    };
    retry_nested();
    d_step { /* rehint, wake everyone, a successor's lanes */
        do :: nempty(ring) -> ring?_ :: empty(ring) -> break od;
        do
        :: j < SLOTS -> if :: phase[j] == READY -> ring!j :: else fi; j++
        :: else -> break
        od;
        j = 0;
        do :: j < WORKERS -> asleep[j] = 0; token[j] = 1; j++ :: else -> break od;
        j = 0;
        do :: nempty(outbox[w]) -> outbox[w]?_,_ :: empty(outbox[w]) -> break od;
        do :: nempty(inbox[w]) -> inbox[w]?_,_ :: empty(inbox[w]) -> break od;
        rescan[w] = 0;
        outbox_waiting[w] = 0;
        token[w] = 0;
        gone[w] = 0;
        doomed[w] = 0;
        alive[w] = 1
    };
    run worker(w)
}

proctype supervisor() {
    byte j, k, n;
    mtype m;
end_idle:
    do
    :: gone[0] -> lock(); recover(0); unlock()
#if WORKERS > 1
    :: gone[1] -> lock(); recover(1); unlock()
#endif
    :: supervisor_token -> supervisor_token = 0; lock(); drain(); unlock()
    od
}
