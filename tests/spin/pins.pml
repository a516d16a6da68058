/* SPDX-License-Identifier: MIT */
/*
 * Pins against intentions (src/update/pins.c, pinning.c and claims.c, N4 to N6): a fault counts itself on the list, then
 * looks at the writer lock and at what its holder has said; a writer says what it changes, then
 * looks at the count, with nothing in between that orders the two: what it says may reach
 * others later (a store buffer, which the release of the lock empties). A writer that has
 * deferred work to do says "nothing" before, and takes that back by an exchange, which waits for
 * the buffer.
 *
 * Writers and faults are all in one place, and come again and again as often as OPERATIONS says.
 *
 * Shown: a fault and a writer are never at work at the same time; all end (nobody sleeps for ever).
 *
 * Faults: LOOK_FIRST: a fault looks at the lock before it counts itself. GO_UNTOLD: it goes on
 * beside a writer that has not said anything. EARLY_BEHIND: a writer looks who waits for it before
 * the release. NO_PLACE: a writer that has to wait does not tell anybody to wake it. PLAIN_ANEW: what
 * was said is taken back by a store. SAID_AGAIN: it is not taken back, but said over.
 */
#define WRITERS    2
#define FAULTS     2
#define OPERATIONS 1

byte next, serving;       /* the writer lock */
#define NOTHING 1
#define HERE    2
byte said;                    /* of its holder; 0: not yet */
chan buffer = [3] of { byte } /* what it has stored, and nobody sees */
byte used, at_work, behind, sleepers, turn;
bool list;                /* the lock of the list of pins */
byte writing;

active proctype store_buffer()
{
end:
	do
	:: atomic { buffer?said }
	od
}

inline release_lock()
{
	empty(buffer);
	said = 0;
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
		if
		:: buffer!NOTHING;
#ifdef PLAIN_ANEW
			buffer!0
#else
#ifndef SAID_AGAIN
			atomic { empty(buffer) -> said = 0 }
#endif
#endif
		:: skip
		fi;
		buffer!HERE;
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
	byte heard;
	bool go, waits, counted, unsure;

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
			go = heard == NOTHING;
#ifdef GO_UNTOLD
			go = heard != HERE;
#else
			unsure = heard == 0; /* it sleeps for a moment, and looks again */
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
