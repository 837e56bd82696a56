/* faults: calls of the C library that fail when a test wants them to.
 *
 * The library libaiomq_faults stands before the C library, linked ahead of it or by LD_PRELOAD, passes
 * calls on, counts them by name, and has chosen ones fail. One fault is armed at a time, for the whole
 * process: by fault_arm(), or for a process that is only about to start by the environment:
 *
 *   AIOMQ_FAULT=NAME:FIRST:LAST:ERROR[:FILE]
 *
 * With FILE, each failing call appends a byte to it; and if LAST is FIRST only one process of all that
 * share the file has its fault: whoever creates it.
 *
 * Thread safety: counting and failing are; arming is for one thread. */
#ifndef AIOMQ_FAULTS_H
#define AIOMQ_FAULTS_H

#ifdef __cplusplus
extern "C" {
#endif

/** Has the calls of @name from number @first to number @last, counted from now on from 1, fail with
 *  @error. Return: 0, or -1: no such name. @first 0: none fails, they are only counted. */
int fault_arm(const char *name, long first, long last, int error);
/** From now on nothing fails; the counts stay. */
void fault_disarm(void);
/** Calls of the armed name since fault_arm(), failed ones included. */
long fault_calls(void);
/** Of them, those that failed. */
long fault_failures(void);
/** mmap(2) minus munmap(2) calls that passed through here. */
long fault_mappings(void);
/** The names, NULL at the end. */
const char *const *fault_names(void);

#ifdef __cplusplus
}
#endif

#endif
