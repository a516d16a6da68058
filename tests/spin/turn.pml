/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a grace period: await_turn() and asp_grace_turn_over() (src/platform/linux/turn.c).
 *
 * Two writers at the bound wait for grace period 1 or 2; the driver ends one after the
 * other, as long as one is asked for.
 *
 * Shown: nobody sleeps when what it waits for has ended.
 *
 * (Where the driver looks for waiters before it advances the turn, or a waiter counts itself
 * after it has looked, nothing goes wrong yet: each is safe by the other.)
 *
 * Faults: END_LAST: the driver advances the turn before it says that the period has ended.
 * NO_COMPARE: the futex sleeps without looking.
 */
byte ended, turn, waiters;
byte requested = 2;
bool asleep[2];

proctype waiter(byte me; byte stamp)
{
	byte seen;
	bool sleep;

	do
	:: ended >= stamp -> break
	:: ended < stamp ->
		waiters++;
		seen = turn;
		sleep = (ended < stamp);
		if
		:: sleep ->
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
		fi
		waiters--
	od
}

proctype driver()
{
	do
	:: ended < requested ->
#ifdef END_LAST
		turn++;
		if
		:: waiters > 0 -> atomic { asleep[0] = false; asleep[1] = false }
		:: else
		fi
		ended++
#else
		ended++;
		turn++;
		if
		:: waiters > 0 -> atomic { asleep[0] = false; asleep[1] = false }
		:: else
		fi
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
