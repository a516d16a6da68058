/* SPDX-License-Identifier: MIT */
/*
 * How what is deferred comes to be run (docs/design.md, Progress; src/space/writer.c,
 * src/reclaim/reclaim.c, src/platform/linux/request.c and driver.c): who enters takes what is due;
 * the helper only tries the lock, and goes away where it is taken; its holder looks, after the
 * release, whether something is due, and asks for the helper again; the driver ends the grace
 * period, and rings where some work is due; who hands over asks for the helper, who runs it.
 *
 * A writer defers something and leaves, another one comes and goes; the driver ends the
 * grace period at any time. Stamps: 1 has elapsed, 2 is that grace period, 0 is none.
 *
 * The helper may be called into a callback of another space, from which it does not return.
 *
 * Shown: when all is quiet, the grace period has ended, also where the helper is in that callback; else what was
 * deferred has been run.
 *
 * Faults: EARLY_LOOK: the holder looks before the release. NO_LOOK: it does not look.
 * RING_FIRST: the driver looks for due work before it says that the period has ended. CLEAR_LATE:
 * the helper forgets what work was due after it has looked at the wishes, not before. NO_NOTE:
 * it does not note what it has left. NO_ASK: who hands over does not ask for the helper. ASK_WITH_WISH: the driver is
 * asked for a grace period only by who leaves an earlier wish than there was; the helper is to see to the others.
 */
byte next, serving;
bool deferred, ended;
bool handed, ran;
byte due, latest, work_due; /* stamps */
bool requested, rung;
bool stuck; /* the helper, in a callback of another space */
byte writers_done;

#define elapsed(stamp) ((stamp) == 1 || ((stamp) == 2 && ended))

inline lower(word, stamp)
{
	atomic {
		lowered = (word == 0 || word > stamp);
		if
		:: lowered -> word = stamp
		:: else
		fi
	}
}

/* asp_grace_request() */
inline request(stamp)
{
	atomic { latest = (latest < stamp -> stamp : latest) }
	lower(due, stamp);
	if
	:: lowered ->
		lower(work_due, stamp);
#ifdef ASK_WITH_WISH
		if
		:: stamp == 2 -> requested = true
		:: else
		fi;
#endif
		if
		:: elapsed(stamp) -> rung = true
		:: else
		fi
	:: else
	fi;
#ifndef ASK_WITH_WISH
	if
	:: stamp == 2 -> requested = true
	:: else
	fi
#endif
}

/* asp_reclaim_share(), under the lock */
inline share()
{
	if
	:: deferred && ended ->
		deferred = false;
		handed = true;
#ifndef NO_ASK
		request(1)
#endif
	:: else
	fi
}

inline acquire()
{
	atomic { ticket = next; next++ }
	serving == ticket
}

/* asp_writer_leave() */
inline leave()
{
#ifdef EARLY_LOOK
	again = deferred && ended;
	serving++;
#else
	again = deferred; /* under the lock */
	serving++;
	again = again && ended;
#endif
#ifndef NO_LOOK
	if
	:: again -> request(1)
	:: else
	fi
#endif
}

proctype deferring_writer()
{
	byte ticket;
	bool again, lowered;

	acquire();
	share();
	deferred = true;
	request(2);
	leave();
	writers_done++
}

proctype other_writer()
{
	byte ticket;
	bool again, lowered;

	request(1); /* has released a snapshot */
	acquire();
	share();
	leave();
	writers_done++
}

proctype driver()
{
end:	requested;
#ifdef RING_FIRST
	if
	:: work_due && elapsed(work_due) -> rung = true
	:: else
	fi;
	ended = true
#else
	ended = true;
	if
	:: work_due && elapsed(work_due) -> rung = true
	:: else
	fi
#endif
}

/* asp_reclaim_work() */
inline work()
{
	seen = serving;
	atomic {
		locked = (next == seen);
		if
		:: locked -> next++
		:: else
		fi
	}
	if
	:: locked ->
		share();
		leave()
	:: else
	fi;
	if
	:: handed -> handed = false; ran = true
	:: else
	fi
}

proctype helper()
{
	byte seen, mine;
	bool locked, again, lowered;

end:	do
	:: rung ->
		rung = false;
		if
		:: skip
		:: stuck = true; false
		fi;
		do
		:: work_due && elapsed(work_due) ->
#ifndef CLEAR_LATE
			work_due = 0;
#endif
			/* asp_grace_take_due() */
			mine = due;
			if
			:: mine && elapsed(mine) ->
				due = 0;
				if
				:: latest == 2 && !ended ->
					lower(due, 2);
#ifndef NO_NOTE
					lower(work_due, 2);
#endif
					requested = true
				:: else
				fi;
#ifdef CLEAR_LATE
				work_due = 0;
#endif
				work()
			:: mine && !elapsed(mine) ->
#ifdef CLEAR_LATE
				work_due = 0;
#endif
#ifndef NO_NOTE
				lower(work_due, mine);
#endif
				requested = true
			:: else ->
#ifdef CLEAR_LATE
				work_due = 0
#else
				skip
#endif
			fi
		:: else -> break
		od
	od
}

init {
	atomic {
		run deferring_writer();
		run other_writer();
		run driver();
		run helper()
	}
}

ltl run_in_the_end {
	<>(writers_done == 2) ->
	<>[](writers_done == 2 && ended && (stuck || (!deferred && !handed && ran)))
}
