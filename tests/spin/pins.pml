/* SPDX-License-Identifier: MIT */
/*
 * Pins against intentions (src/update/pins.c, N4 to N6): a fault counts itself on the list, then
 * looks at the writer lock and at what its holder has said; a writer says what it changes, then
 * looks at the count, with nothing in between that orders the two: what it says may reach
 * others later (a store buffer, which the release of the lock empties).
 *
 * Writers and faults are all in one place, and come again and again as often as OPERATIONS says.
 *
 * Shown: a fault and a writer are never at work at the same time; all end (nobody sleeps for ever).
 *
 * Faults: LOOK_FIRST: a fault looks at the lock before it counts itself. GO_UNTOLD: it goes on
 * beside a writer that has not said anything. EARLY_BEHIND: a writer looks who waits for it before
 * the release. NO_PLACE: a writer that has to wait does not tell anybody to wake it.
 */
#define WRITERS    2
#define FAULTS     2
#define OPERATIONS 1

byte next, serving;       /* the writer lock */
bool said, buffered;      /* of its holder: visible; in its store buffer */
byte used, at_work, behind, sleepers, turn;
bool list;                /* the lock of the list of pins */
byte writing;

active proctype store_buffer()
{
end:
	do
	:: atomic { buffered -> said = true; buffered = false }
	od
}

inline say() { buffered = true }

inline release_lock()
{
	!buffered;
	said = false;
	serving++
}

inline leave()
{
#ifdef EARLY_BEHIND
	tell = behind > 0;
	release_lock();
#else
	release_lock();
	tell = behind > 0;
#endif
	if
	:: tell -> turn++
	:: else
	fi
}

active [WRITERS] proctype writer()
{
	byte ticket, seen, left = OPERATIONS;
	bool tell, clear, counted;

	do
	:: left == 0 -> break
	:: else ->
		atomic { ticket = next; next++ }
		serving == ticket;
		say();
		clear = used == 0;
		if
		:: clear
		:: else ->
			atomic {
				!list;
				clear = at_work == 0;
				if
				:: !clear && !counted -> counted = true; used++;
#ifndef NO_PLACE
					sleepers++
#endif
				:: else
				fi
			}
		fi;
		if
		:: clear ->
			writing++;
			assert(at_work == 0);
			writing--;
			left--;
			atomic {
				if
				:: counted -> counted = false; used--;
#ifndef NO_PLACE
					sleepers--
#endif
				:: else
				fi
			}
			leave()
		:: else ->
			leave();
			do
			:: atomic { at_work == 0 -> break }
			:: atomic { at_work > 0 -> seen = turn };
				turn != seen
			od
		fi
	od
}

active [FAULTS] proctype fault()
{
	byte ticket, seen, left = OPERATIONS;
	bool heard, go, waits, counted, unsure;

	do
	:: left == 0 -> break
	:: else ->
		counted = false;
again:
		atomic { !list; list = true }
#ifndef LOOK_FIRST
		if
		:: !counted -> counted = true; used++
		:: else
		fi;
#endif
		seen = turn;
		ticket = serving;
		unsure = false;
		if
		:: next == ticket -> go = true
		:: else ->
			heard = said;
			go = false;
#ifdef GO_UNTOLD
			go = !heard;
#else
			unsure = !heard; /* it sleeps for a moment, and looks again */
#endif
			if
			:: serving != ticket -> unsure = true; go = false
			:: else
			fi
		fi;
#ifdef LOOK_FIRST
		if
		:: go -> used++
		:: else
		fi;
#endif
		if
		:: go -> at_work++
		:: else
		fi;
		list = false;
		if
		:: unsure -> goto again
		:: else
		fi;
		if
		:: go ->
			assert(writing == 0);
			if
			:: waits -> waits = false; behind--
			:: else
			fi;
			/* Gone, and whoever waits for that is told. */
			atomic {
				!list;
				at_work--;
				used--;
				if
				:: sleepers > 0 -> turn++
				:: else
				fi
			}
			left--
		:: else ->
			if
			:: !waits -> waits = true; behind++; goto again
			:: else -> turn != seen; goto again
			fi
		fi
	od
}
