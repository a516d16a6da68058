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
 * the release. NO_PLACE: a writer that has to wait does not note for whom. WRONG_ONE: who leaves tells
 * another one than who waits for it. PLAIN_ANEW: what was said is taken back by a store. SAID_AGAIN: it is not
 * taken back, but said over.
 *
 * Each sleeps upon a word of its own, told[]: a writer for a fault that it has found at work, which tells it as
 * it goes (N10); a fault for the writer that it came beside, which tells those when it has given the lock back.
 */
#define WRITERS    2
#define FAULTS     2
#define OPERATIONS 1

byte next, serving;       /* the writer lock */
#define NOTHING 1
#define HERE    2
byte said;                    /* of its holder; 0: not yet */
chan buffer = [3] of { byte } /* what it has stored, and nobody sees */
byte used, at_work, behind;
#define FIRST_WRITER 1 /* processes; 0 is the store buffer */
#define FIRST_FAULT  (FIRST_WRITER + WRITERS)
#define END	     (FIRST_FAULT + FAULTS)
byte told[END], awaits[END], behind_with[END]; /* of a fault: the ticket, and 1 */
bool works[END];
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
	:: tell ->
		atomic {
			!list;
			other = FIRST_FAULT;
			do
			:: other == END -> other = 0; break
			:: other < END ->
				if
				:: behind_with[other] && behind_with[other] != serving + 1 ->
					told[other]++
				:: else
				fi;
				other++
			od
		}
	:: else
	fi
}

active [WRITERS] proctype writer()
{
	byte ticket, seen, other, left = OPERATIONS;
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
				:: !clear && !counted -> counted = true; used++
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
				:: counted -> counted = false; used--
				:: else
				fi
			}
			leave()
		:: else ->
			leave();
			do
			:: atomic { !list && at_work == 0 -> break }
			:: atomic {
				!list && at_work > 0 -> seen = told[_pid];
				other = FIRST_FAULT;
				do
				:: works[other] -> break
				:: else -> other++
				od;
#ifndef NO_PLACE
				awaits[_pid] = other;
#endif
				other = 0
			};
				told[_pid] != seen;
				seen = 0
			od
		fi
	od
}

active [FAULTS] proctype fault()
{
	byte ticket, seen, other, left = OPERATIONS;
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
		ticket = serving;
		seen = told[_pid];
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
		if
		:: go ->
#ifdef LOOK_FIRST
			used++;
#endif
			at_work++;
			works[_pid] = true;
			if
			:: waits -> waits = false; behind--; behind_with[_pid] = 0
			:: else
			fi;
			list = false
		:: !go && unsure -> list = false; goto again
		:: !go && !unsure && !waits ->
			waits = true;
			behind_with[_pid] = ticket + 1;
			behind++;
			list = false;
			goto again
		:: !go && !unsure && waits ->
			behind_with[_pid] = ticket + 1;
			list = false;
			told[_pid] != seen;
			seen = 0;
			goto again
		fi;
		assert(writing == 0);
		/* Gone, and whoever waits for it is told. */
		atomic {
			!list;
			at_work--;
			works[_pid] = false;
			used--;
			other = FIRST_WRITER;
			do
			:: other == FIRST_FAULT -> other = 0; break
			:: other < FIRST_FAULT ->
				if
				:: awaits[other] == _pid ->
					awaits[other] = 0;
#ifdef WRONG_ONE
					told[FIRST_WRITER + FIRST_FAULT - 1 - other]++
#else
					told[other]++
#endif
				:: else
				fi;
				other++
			od
		}
		left--
	od
}
