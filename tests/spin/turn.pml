/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a grace period: await_turn() and asp_grace_turn_over() (src/platform/linux/turn.c),
 * over a count (struct asp_count of src/platform/platform.h).
 *
 * Two writers wait for grace period 1 or 2; the driver ends one after the other, as long as
 * one is asked for. It does nothing else, so nobody turns one over himself.
 *
 * Shown: nobody sleeps when what it waits for has ended.
 *
 * Faults: END_LAST: the driver advances the turn before it says that the period has ended.
 * NO_COMPARE: the futex sleeps without looking. LATE_READ: a waiter reads the turn after it has
 * looked whether the period has ended. EARLY_LOOK: the driver looks for waiters before it advances
 * the turn.
 */
byte ended, turn, waiters;
byte requested = 2;
bool asleep[2];

proctype waiter(byte me; byte stamp)
{
	byte seen;

	do
	:: ended >= stamp -> break
	:: ended < stamp ->
#ifndef LATE_READ
		seen = turn;
#endif
		if
		:: ended < stamp ->
#ifdef LATE_READ
			seen = turn;
#endif
			waiters++;
			if
			:: turn == seen ->
				atomic {
					if
#ifdef NO_COMPARE
					:: asleep[me] = true
#else
					:: turn == seen -> asleep[me] = true
					:: else
#endif
					fi
				}
				!asleep[me]
			:: else
			fi;
			waiters--
		:: else
		fi
	od
}

inline wake()
{
	if
	:: some -> atomic { asleep[0] = false; asleep[1] = false }
	:: else
	fi
}

proctype driver()
{
	bool some;

	do
	:: ended < requested ->
#ifdef END_LAST
		turn++;
		some = (waiters > 0);
		wake();
		ended++
#elif defined(EARLY_LOOK)
		ended++;
		some = (waiters > 0);
		turn++;
		wake()
#else
		ended++;
		turn++;
		some = (waiters > 0);
		wake()
#endif
	:: ended >= requested -> break
	od
}

init {
	atomic {
		run waiter(0, 1);
		run waiter(1, 2);
		run driver()
	}
}
