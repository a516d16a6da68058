/* SPDX-License-Identifier: MIT */
/*
 * The ring of releases (src/reclaim/calls.c): writers hand over what is due, the helper calls it.
 *
 * Three things are on the list, two writers put another there each; all of them are due. The
 * ring has room for two. Who finds no room leaves a mark, gives the lock back, waits for room, and
 * comes again. The runner takes the mark away when half of the ring is free,
 * wakes, and asks for the helper, who is the runner here.
 *
 * Shown: both writers get through, and in the end everything has been called.
 *
 * Faults: NO_RECHECK: who leaves the mark does not look once more. NO_ASK: the runner does not ask
 * for the helper when it has made room. NO_WAKE: it wakes nobody. NO_COMPARE: the futex sleeps
 * without looking. QUIET: who has left the mark, and finds room as it looks once more, takes it
 * away and wakes nobody, though another waits because of it. MARK_LAST: the runner wakes first, and
 * then takes the mark away.
 */
#define ROOM 2

byte next, serving;
byte deferred = 3, in, out, room, waiters;
bool clogged, rung;
bool asleep[2];
byte writers_done;

inline acquire()
{
	atomic { ticket = next; next++ }
	serving == ticket
}

inline wake()
{
	room++;
#ifndef NO_WAKE
	if
	:: waiters > 0 -> atomic { asleep[0] = false; asleep[1] = false }
	:: else
	fi
#endif
}

/* hand_over_references() */
inline share()
{
	left = false;
	do
	:: deferred == 0 || left -> break
	:: deferred > 0 && !left ->
		if
		:: in - out < ROOM ->
			deferred--;
			in++;
			rung = true
		:: in - out >= ROOM ->
			clogged = true;
#ifdef NO_RECHECK
			left = true
#else
			if
			:: in - out > ROOM / 2 -> left = true
			:: else ->
#ifdef QUIET
				clogged = false
#else
				atomic { mine = clogged; clogged = false }
				if
				:: mine -> wake()
				:: else
				fi
#endif
			fi
#endif
		fi
	od
}

inline leave()
{
	due = (deferred > 0);
	serving++;
	if
	:: due && !clogged -> rung = true
	:: else
	fi
}

proctype writer(byte me)
{
	byte ticket, seen;
	bool left, due, mine;

	/* asp_writer_enter() */
	do
	:: acquire();
	   share();
	   if
	   :: !left -> break
	   :: left ->
		leave();
		/* asp_calls_await_room() */
		seen = room;
		do
		:: !(clogged && room == seen) -> break
		:: clogged && room == seen ->
			waiters++;
			atomic {
				if
#ifdef NO_COMPARE
				:: asleep[me] = true
#else
				:: room == seen -> asleep[me] = true
				:: else
#endif
				fi
			}
			!asleep[me];
			waiters--
		od
	   fi
	od;
	deferred++;
	leave();
	writers_done++
}

proctype helper()
{
	byte seen;
	bool locked, left, due, mine;

end:	do
	:: rung ->
		rung = false;
		seen = serving;
		atomic {
			locked = (next == seen);
			if
			:: locked -> next++
			:: else
			fi
		}
		if
		:: locked -> share(); leave()
		:: else
		fi;
		/* asp_calls_run() */
		do
		:: out != in ->
			out++;
			/* make_room() */
			if
			:: clogged && in - out <= ROOM / 2 ->
#ifdef MARK_LAST
				wake();
				clogged = false;
				rung = true
#else
				atomic { mine = clogged; clogged = false }
				if
				:: mine ->
					wake();
#ifndef NO_ASK
					rung = true
#endif
				:: else
				fi
#endif
			:: else
			fi
		:: out == in -> break
		od
	od
}

init {
	atomic {
		run writer(0);
		run writer(1);
		run helper()
	}
}

ltl called_in_the_end { <>[](writers_done == 2 && deferred == 0 && in == out) }
