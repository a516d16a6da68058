/* SPDX-License-Identifier: MIT */
/*
 * A space that stands still for a fork (src/space/halt.c, writer.c): the fork does not stand in the line of the
 * writer lock, and does not wait for faults. It says that it is there, and takes the lock where it is free, or has
 * it lent by a holder that rests: one that comes in, or a transaction that waits for a fault.
 *
 * A writer comes, as often as OPERATIONS says. A transaction may come, which waits in its commit for a fault, which goes
 * only when the fork is over: so who makes the fork wait for it hangs.
 *
 * Shown: while the fork has the space nobody is in the middle of it; all end. (That a fork is not kept out by
 * writers who come for ever is not: here they end.)
 *
 * Faults: NO_TELL: who gives the lock back does not look
 * whether a fork waits. EARLY_TELL: it looks before that. REST_UNTOLD: who rests does not say so. NOT_LENT: who rests
 * goes on when it is woken, though the fork has its lock. NO_COMMIT_REST: a transaction waits for faults
 * without resting. UNCOUNTED: the fork does not say that it is there. SEEN_LATE: it reads the word that it
 * sleeps upon after it has looked at the lock.
 */
#define OPERATIONS 2

byte next, serving;          /* the writer lock */
byte halts, behind, turn;
bool list;                   /* the lock of the list of pins */
bool resting, lent;
bool middle, forking, forked, fault_over;

inline acquire_list() { atomic { !list -> list = true } }
inline release_list() { list = false }

inline tell() { turn++ }

/* asp_rest_begin(); under the lock of the list */
inline rest_begin()
{
	if
	:: !resting ->
		resting = true;
#ifndef REST_UNTOLD
		if
		:: halts > 0 -> tell()
		:: else
		fi
#endif
	:: else
	fi;
	seen = turn
}

inline acquire()
{
	atomic { ticket = next; next++ }
	serving == ticket;
	/* asp_rest_at_entry() */
	if
	:: halts > 0 ->
		acquire_list();
		do
		:: lent || halts > 0 ->
			rest_begin();
			release_list();
			turn != seen;
			acquire_list();
#ifdef NOT_LENT
			break
#endif
		:: else -> break
		od;
		resting = false;
		release_list()
	:: else
	fi
}

inline leave()
{
#ifdef EARLY_TELL
	told = behind > 0;
	serving++;
#else
	serving++;
	told = behind > 0;
#endif
#ifndef NO_TELL
	if
	:: told -> tell()
	:: else
	fi
#endif
}

active proctype writer()
{
	byte ticket, seen, left = OPERATIONS;
	bool told;

	do
	:: left == 0 -> break
	:: else ->
		acquire();
		middle = true;
		assert(!forking);
		middle = false;
		leave();
		left--
	od
}

active proctype transaction()
{
	byte ticket, seen;
	bool told;

	if
	:: skip -> goto none
	:: skip
	fi;
	acquire();
	middle = true;
	assert(!forking);
	middle = false; /* what is planned is whole */
	/* asp_pins_claim_plan() */
	acquire_list();
	do
	:: lent || !fault_over ->
#ifndef NO_COMMIT_REST
		rest_begin();
#else
		seen = turn;
#endif
		release_list();
		turn != seen;
		acquire_list();
#ifdef NOT_LENT
		if
		:: fault_over -> break
		:: else
		fi
#endif
	:: else -> break
	od;
	resting = false;
	release_list();
	middle = true;
	assert(!forking);
	middle = false;
	leave();
none:	skip
}

/* It waits, by means of the program's own, for the fork; then whoever waits for it is told. */
active proctype fault()
{
	forked;
	acquire_list();
	fault_over = true;
	tell();
	release_list()
}

/* asp_halt(), and asp_halt_leave() */
active proctype fork()
{
	byte seen, mine;
	bool halted, ours, told;

	acquire_list();
#ifndef UNCOUNTED
	halts++;
	behind++;
#endif
	do
	:: halted -> break
	:: else ->
		seen = turn;
		/* try_to_halt() */
		if
		:: resting && !lent -> lent = true; halted = true
		:: else ->
			mine = serving;
			atomic {
				if
				:: next == mine -> next++; halted = true; ours = true
				:: else
				fi
			}
		fi;
		if
		:: halted -> break
		:: else
		fi;
#ifdef SEEN_LATE
		seen = turn;
#endif
		release_list();
		turn != seen;
		acquire_list()
	od;
#ifndef UNCOUNTED
	halts--;
	behind--;
#endif
	release_list();
	forking = true;
	assert(!middle);
	forking = false;
	acquire_list();
	forked = true;
	/* give_back() */
	if
	:: lent -> tell()
	:: else
	fi;
	lent = false;
	release_list();
	if
	:: ours -> leave()
	:: else
	fi
}
