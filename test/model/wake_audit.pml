/* wake_audit.pml: a wake-up taken by a worker that does not look, and the audit that repairs it.
 *
 * What is modelled   pool.cpp (locked_publish_hints, locked_wake_workers, locked_wake_sleepers_with_hints)
 *                    and the supervisor's one-shot timer; worker*.cpp (sleep, wake).
 * Processes          WORKERS workers, all but one of which may stop for ever after they were woken and
 *                    before they look (SIGSTOP, long work of another task); the dispatcher, which submits
 *                    TASKS tasks and wakes one sleeper for each; the supervisor, which audits when the timer
 *                    has run out, at any moment after it was armed.
 * Properties         no hint waits for ever while a worker sleeps: an invalid end state of `watcher`.
 * Memory order       sequentially consistent; claim.pml has what sleeping and waking need.
 * Mutants            BUG_NO_AUDIT; BUG_AUDIT_ONCE, which never arms it again.
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef TASKS
#define TASKS 2
#endif

chan ring = [TASKS] of { byte };
bit wants[WORKERS], token[WORKERS];
byte stopped, taken;

/* Under the mutex. */
bit mutex;
bit armed; /* Pool::audit_armed_ */
bit timer;

#define lock() atomic { !mutex -> mutex = 1 }
#define unlock() mutex = 0

proctype worker(byte w) {
    do
    :: atomic { nempty(ring) -> ring?_; taken++ }
    :: empty(ring) ->
        wants[w] = 1;
        if
        :: nempty(ring) -> wants[w] = 0
        :: empty(ring) ->
end_asleep: token[w];
            if
            :: atomic { stopped < WORKERS - 1 -> stopped++ };
end_stopped:    false
            :: d_step { token[w] = 0; wants[w] = 0 }
            fi
        fi
    od
}

/* Up to n sleepers; then somebody looks whether they looked. */
inline wake_workers(n) {
    do
    :: k < WORKERS && sent < n ->
        if :: d_step { wants[k] -> wants[k] = 0; token[k] = 1; sent++ } :: else fi;
        k++
    :: else -> break
    od;
    if
    :: sent > 0 && !armed -> armed = 1; timer = 1
    :: else
    fi;
    d_step { k = 0; sent = 0 }
}

active proctype dispatcher() {
    byte i, k, sent;
    atomic {
        do :: i < WORKERS -> run worker(i); i++ :: else -> break od;
        i = 0
    };
    do
    :: i < TASKS -> lock(); ring!i; wake_workers(1); unlock(); i++
    :: else -> break
    od
}

active proctype supervisor() {
    byte k, sent;
end_idle:
    do
    :: timer ->
        timer = 0;
        lock();
#ifdef BUG_NO_AUDIT
        skip;
#else
#ifndef BUG_AUDIT_ONCE
        armed = 0;
#endif
        if
        :: nempty(ring) -> wake_workers(WORKERS)
        :: empty(ring)
        fi;
#endif
        unlock()
    od
}

active proctype watcher() { taken == TASKS }
