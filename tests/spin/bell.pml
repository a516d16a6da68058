/* SPDX-License-Identifier: MIT */
/*
 * The bell by which writers wake the driver, and these the helper (src/platform/linux/driver.c, "Bells").
 *
 * Two writers wish twice each, the helper grants wishes. The word counts rings by twos; its
 * lowest bit says that the helper sleeps upon it.
 *
 * Shown: no wish is left when nobody has anything to do. The helper may sleep for ever,
 * but not on a wish.
 *
 * Faults: RING_FIRST, before the wish is written. NO_SWAP: the helper marks itself asleep
 * whatever the bell says. ALWAYS_SLEEP: it sleeps upon the word that it has just seen,
 * mark or not. NO_WAKE: a ringer takes the mark away and wakes nobody.
 */
#define WRITERS 2
#define WISHES  2

byte bell;       /* 2 * rings + (the helper sleeps) */
byte wishes;     /* that have been written and not granted */
bool asleep;     /* in the futex */
byte writers_done;

inline ring()
{
	atomic { old = bell; bell = bell + 2 }
	if
	:: old & 1 ->
		atomic { old = bell; bell = bell & 254 }
		if
#ifndef NO_WAKE
		:: old & 1 -> asleep = false
#endif
		:: else
		fi
	:: else
	fi
}

proctype writer()
{
	byte old, wish;

	for (wish : 1 .. WISHES) {
#ifdef RING_FIRST
		ring();
		wishes++
#else
		wishes++;
		ring()
#endif
	}
	writers_done++
}

proctype helper()
{
	byte seen, mark;
	bool swapped;

end:	do
	:: /* helper_main(): what was rung so far is seen; what was wished before, granted */
	   atomic { seen = bell & 254; bell = seen }
	   wishes = 0;
	   /* sleep_until_rung() */
	   mark = seen | 1;
	   atomic {
		swapped = (bell == seen);
		if
#ifdef NO_SWAP
		:: bell = mark; swapped = true
#else
		:: swapped -> bell = mark
		:: else
#endif
		fi
	   }
	   if
	   :: swapped ->
		do
		:: bell == mark ->
			/* futex(2): compares, and sleeps, in one step */
			atomic {
				if
#ifdef ALWAYS_SLEEP
				:: asleep = true
#else
				:: bell == mark -> asleep = true
				:: else
#endif
				fi
			}
end_asleep:		!asleep
		:: bell != mark -> break
		od
	   :: else
	   fi
	od
}

init {
	atomic {
		run writer();
		run writer();
		run helper()
	}
}

/* Once all writers are through, their wishes are granted in the end. */
ltl granted { <>(writers_done == WRITERS) -> <>[](writers_done == WRITERS && wishes == 0) }
