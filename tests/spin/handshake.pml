/* SPDX-License-Identifier: MIT */
/*
 * The handshake for deferred work (docs/design.md; src/space/writer.c, src/reclaim/reclaim.c): the helper
 * only tries the lock, and goes away where it is taken; its holder looks, after the
 * release, whether something has become due, and asks for the helper again.
 *
 * A writer defers something and leaves, another one comes and goes; the helper ends the
 * grace period at any time.
 *
 * Shown: when all is quiet, what was deferred has been run.
 *
 * Faults: EARLY_LOOK: the holder looks before the release. NO_LOOK: it does not look.
 * TRY_FIRST: the helper tries the lock before it says that the period has ended.
 */
byte next, serving;
bool deferred, ended, asked, grace_asked;
byte writers_done;

inline acquire()
{
	atomic { ticket = next; next++ }
	serving == ticket
}

inline leave()
{
#ifdef EARLY_LOOK
	due = deferred;
	again = due && ended;
	serving++;
#else
	due = deferred; /* under the lock */
	serving++;
	again = due && ended;
#endif
#ifndef NO_LOOK
	if
	:: again -> asked = true
	:: else
	fi
#endif
}

proctype deferring_writer()
{
	byte ticket;
	bool due, again;

	acquire();
	deferred = true;
	grace_asked = true; /* asp_grace_request() */
	leave();
	writers_done++
}

proctype other_writer()
{
	byte ticket;
	bool due, again;

	acquire();
	leave();
	writers_done++
}

/* asp_reclaim_work() */
inline try_work()
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
		if
		:: ended -> deferred = false
		:: else
		fi
		due = deferred;
		serving++;
		if
		:: due && ended -> asked = true
		:: else
		fi
	:: else
	fi
}

proctype helper()
{
	byte seen;
	bool locked, due;

end:	do
	:: grace_asked && !ended ->
#ifdef TRY_FIRST
		try_work();
		ended = true
#else
		ended = true;
		try_work()
#endif
	:: asked ->
		asked = false;
		try_work()
	od
}

init {
	atomic {
		run deferring_writer();
		run other_writer();
		run helper()
	}
}

ltl run_in_the_end { <>(writers_done == 2) -> <>[](writers_done == 2 && !deferred) }
