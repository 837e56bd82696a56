/* withdraw.pml: tasks that are cancelled or expire before anybody claims them, and the hints they leave.
 *
 * What is modelled   slots.hpp (withdraw, claim in its two steps: load, then compare-and-swap against the
 *                    word that was loaded), pool_submit.cpp (locked_push_hint with a full ring,
 *                    locked_rehint, locked_publish_hints), worker*.cpp (claim_one, sleep).
 * Processes          two workers, each serving a queue of its own; the dispatcher, which makes SUBMITS
 *                    submits through SLOTS slots to either queue, withdraws WITHDRAWALS READY slots, and
 *                    frees what is DONE. A ring has CELLS cells: twice as many as slots in the code, fewer
 *                    here, so that stale hints fill it sooner.
 * Properties         every task runs once or is withdrawn, never both; a worker runs tasks of its queue only
 *                    (assertions); none is left behind with its worker asleep (invalid end state). The wake
 *                    audit is not there to help.
 * Memory order       sequentially consistent; claim.pml has what sleeping and waking need.
 * Mutants            BUG_NO_DRAIN, BUG_WAKE_ONE_QUEUE, BUG_NO_GENERATION, BUG_WITHDRAW_BY_STORE.
 */
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef CELLS
#define CELLS SLOTS
#endif
#ifndef SUBMITS
#define SUBMITS 5
#endif
#ifndef WITHDRAWALS
#define WITHDRAWALS 3
#endif

mtype = { FREE, READY, CLAIMED, DONE };

/* One word: phase, queue, generation. */
mtype phase[SLOTS] = FREE;
bit queue[SLOTS];
byte generation[SLOTS];

chan ring[2] = [CELLS] of { byte };
byte unpublished[2];
bit wants[2], token[2];

/* Private to the dispatcher. */
byte submits, withdrawals, in_use;
byte pushed[2];

byte ran[SLOTS]; /* only for the properties: how often this task */

proctype worker(bit w) {
    byte s, g;
    bit fits;
    do
    :: ring[w]?s ->
        d_step { fits = (phase[s] == READY && queue[s] == w); g = generation[s] };
        if
        :: fits ->
            if
#ifdef BUG_NO_GENERATION
            :: atomic { phase[s] == READY -> phase[s] = CLAIMED };
#else
            :: atomic { phase[s] == READY && queue[s] == w && generation[s] == g -> phase[s] = CLAIMED };
#endif
                d_step { assert(queue[s] == w && ran[s] == 0); ran[s]++ };
                d_step { phase[s] = DONE; s = 0; g = 0; fits = 0 }
            :: else -> d_step { s = 0; g = 0; fits = 0 }
            fi
        :: else -> d_step { s = 0; g = 0 }
        fi
    :: empty(ring[w]) ->
        wants[w] = 1;
        if
        :: len(ring[w]) > unpublished[w] -> wants[w] = 0
        :: else ->
end_asleep: token[w];
            d_step { token[w] = 0; wants[w] = 0 }
        fi
    od
}

inline rehint() {
    q = 0;
    do
    :: q < 2 ->
        do
        :: atomic { nempty(ring[q]) -> ring[q]?_ }
        :: empty(ring[q]) -> break
        od;
        q++
    :: else -> break
    od;
    j = 0;
    do
    :: j < SLOTS ->
        if
        :: phase[j] == READY ->
            atomic { assert(nfull(ring[queue[j]])); ring[queue[j]]!j; unpublished[queue[j]]++ }
        :: else
        fi;
        j++
    :: else -> break
    od;
    unpublished[0] = 0;
    unpublished[1] = 0;
    d_step { j = 0; q = 0 }
}

inline push_hint(s) {
    if
    :: atomic { nfull(ring[queue[s]]) -> ring[queue[s]]!s; unpublished[queue[s]]++ };
        pushed[queue[s]]++
    :: full(ring[queue[s]]) ->
#ifdef BUG_NO_DRAIN
        skip
#else
        rehint();
#ifdef BUG_WAKE_ONE_QUEUE
        pushed[queue[s]]++
#else
        if :: nempty(ring[0]) -> pushed[0] = 2 :: empty(ring[0]) fi;
        if :: nempty(ring[1]) -> pushed[1] = 2 :: empty(ring[1]) fi
#endif
#endif
    fi
}

inline publish_hints() {
    do
    :: q < 2 ->
        if
        :: pushed[q] > 0 ->
            unpublished[q] = 0;
            d_step {
                if :: wants[q] -> wants[q] = 0; token[q] = 1 :: else fi;
                pushed[q] = 0
            }
        :: else
        fi;
        q++
    :: else -> q = 0; break
    od
}

active proctype dispatcher() {
    byte j, q, s;
    atomic { run worker(0); run worker(1) };
    do
    :: submits < SUBMITS && in_use < SLOTS ->
        d_step {
            do :: phase[s] != FREE -> s++ :: else -> break od;
            submits++;
            in_use++;
            ran[s] = 0
        };
        if
        :: d_step { queue[s] = 0; generation[s]++; phase[s] = READY }
        :: d_step { queue[s] = 1; generation[s]++; phase[s] = READY }
        fi;
        push_hint(s);
        publish_hints();
        s = 0
    :: withdrawals < WITHDRAWALS && in_use > 0 ->
        withdrawals++;
        select(s : 0 .. SLOTS - 1);
        if
#ifdef BUG_WITHDRAW_BY_STORE
        :: phase[s] == READY ->
#else
        :: atomic { phase[s] == READY ->
#endif
            phase[s] = FREE;
            in_use--;
            assert(ran[s] == 0)
#ifndef BUG_WITHDRAW_BY_STORE
            }
#endif
        :: else
        fi;
        s = 0
    :: d_step { phase[0] == DONE -> assert(ran[0] == 1); phase[0] = FREE; in_use-- }
    :: d_step { phase[SLOTS - 1] == DONE -> assert(ran[SLOTS - 1] == 1); phase[SLOTS - 1] = FREE; in_use-- }
    :: submits == SUBMITS && in_use == 0 -> break
    od
}
