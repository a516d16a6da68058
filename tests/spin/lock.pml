/* SPDX-License-Identifier: MIT */
/*
 * The writers' lock (src/platform/linux/lock.c): tickets over a futex, for Spin.
 *
 * Three writers take the lock twice each. A waiter sleeps upon `serving` with a bit that its
 * ticket chooses; here there are two bits, so that two waiters share one and are woken
 * together. A futex compares and goes to sleep in one step, or does not sleep.
 *
 * Shown: one holder at a time; every writer gets through (a sleeper that nobody wakes
 * would be an invalid end state).
 *
 * Faults (-D...): LOST_WAKEUP, as in tests/seeded: nobody is woken where one waits.
 * NO_COMPARE: the futex sleeps without looking. WRONG_BIT: the releaser wakes for the
 * ticket that it has itself. EARLY_LOOK: it looks for waiters before it releases.
 */
#define WRITERS 3
#define TURNS   2
#define bit(ticket) ((ticket) & 1)

byte next, serving, inside;
bool asleep[WRITERS];
byte bit_of[WRITERS];

inline wake(which)
{
	/* The system call: all sleepers of the bit at once. */
	atomic {
		for (i : 0 .. WRITERS - 1) {
			if
			:: asleep[i] && bit_of[i] == which -> asleep[i] = false
			:: else
			fi
		}
	}
}

proctype writer(byte me)
{
	byte ticket, seen, i, turn;

	for (turn : 1 .. TURNS) {
		/* asp_lock_acquire() */
		atomic { ticket = next; next++ }
		do
		:: seen = serving;
		   if
		   :: seen == ticket -> break
		   :: seen != ticket && ticket - seen == 1 -> skip /* spins */
		   :: seen != ticket ->
			atomic {
				bit_of[me] = bit(ticket);
				if
#ifdef NO_COMPARE
				:: asleep[me] = true
#else
				:: serving == seen -> asleep[me] = true
				:: else
#endif
				fi
			}
			!asleep[me]
		   fi
		od

		inside++;
		assert(inside == 1);
		inside--;

		/* asp_lock_release() */
#ifdef EARLY_LOOK
		seen = next;
		atomic { serving++; ticket = serving }
#else
		atomic { serving++; ticket = serving }
		seen = next;
#endif
		if
#ifdef LOST_WAKEUP
		:: seen - ticket > 1 -> wake(bit(ticket))
#elif defined(WRONG_BIT)
		:: seen != ticket -> wake(bit(ticket - 1))
#else
		:: seen != ticket -> wake(bit(ticket))
#endif
		:: else
		fi
	}
}

init {
	byte n;

	atomic {
		for (n : 0 .. WRITERS - 1) {
			run writer(n)
		}
	}
}
