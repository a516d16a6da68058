/* SPDX-License-Identifier: MIT */
/*
 * Entry with the MMU off, at EL3, EL2 or EL1; exceptions; and the accesses that may fault.
 *
 * Nothing here is position dependent in a way that matters: addresses are the same with the
 * MMU on and off.
 */
	.section .text.start, "ax"
	.global start
start:
	ldr	x0, =bss_start
	ldr	x1, =bss_end
1:	cmp	x0, x1
	b.hs	2f
	stp	xzr, xzr, [x0], #16
	b	1b
2:	ldr	x0, =data_end + 0x20000 /* the stack of CPU 0; see board.h */
	ldr	x19, =main
	b	enter

	/* Where PSCI starts another CPU, with its stack in x0. */
	.global start_other
start_other:
	ldr	x19, =other_main
enter:
	mov	sp, x0
	ldr	x0, =vectors
	mrs	x1, CurrentEL
	cmp	x1, #8
	b.lo	1f
	b.eq	2f
	msr	vbar_el3, x0
2:	msr	vbar_el2, x0
1:	msr	vbar_el1, x0
	isb
	blr	x19
	b	finish

	.weak other_main
other_main:
	b	other_main

/* ---- Exceptions: to on_exception(vector, frame), and back to where the frame says ------- */

	.text
	.balign 2048
	.global vectors
vectors:
	.set	vector, 0
	.rept	16
	.balign	128
	sub	sp, sp, #288
	stp	x0, x1, [sp]
	mov	x0, #vector
	b	caught
	.set	vector, vector + 1
	.endr

caught:
	stp	x2, x3, [sp, #16]
	stp	x4, x5, [sp, #32]
	stp	x6, x7, [sp, #48]
	stp	x8, x9, [sp, #64]
	stp	x10, x11, [sp, #80]
	stp	x12, x13, [sp, #96]
	stp	x14, x15, [sp, #112]
	stp	x16, x17, [sp, #128]
	stp	x18, x19, [sp, #144]
	stp	x20, x21, [sp, #160]
	stp	x22, x23, [sp, #176]
	stp	x24, x25, [sp, #192]
	stp	x26, x27, [sp, #208]
	stp	x28, x29, [sp, #224]
	mrs	x2, CurrentEL
	cmp	x2, #8
	b.lo	1f
	b.eq	2f
	mrs	x3, elr_el3
	mrs	x4, spsr_el3
	mrs	x5, esr_el3
	mrs	x6, far_el3
	b	4f
2:	mrs	x3, elr_el2
	mrs	x4, spsr_el2
	mrs	x5, esr_el2
	mrs	x6, far_el2
	b	4f
1:	mrs	x3, elr_el1
	mrs	x4, spsr_el1
	mrs	x5, esr_el1
	mrs	x6, far_el1
4:	stp	x30, x3, [sp, #240]
	stp	x4, x5, [sp, #256]
	str	x6, [sp, #272]
	mov	x1, sp
	bl	on_exception
	ldp	x30, x3, [sp, #240]
	ldr	x4, [sp, #256]
	mrs	x2, CurrentEL
	cmp	x2, #8
	b.lo	1f
	b.eq	2f
	b	finish
2:	msr	elr_el2, x3
	msr	spsr_el2, x4
	b	4f
1:	msr	elr_el1, x3
	msr	spsr_el1, x4
4:	ldp	x28, x29, [sp, #224]
	ldp	x26, x27, [sp, #208]
	ldp	x24, x25, [sp, #192]
	ldp	x22, x23, [sp, #176]
	ldp	x20, x21, [sp, #160]
	ldp	x18, x19, [sp, #144]
	ldp	x16, x17, [sp, #128]
	ldp	x14, x15, [sp, #112]
	ldp	x12, x13, [sp, #96]
	ldp	x10, x11, [sp, #80]
	ldp	x8, x9, [sp, #64]
	ldp	x6, x7, [sp, #48]
	ldp	x4, x5, [sp, #32]
	ldp	x2, x3, [sp, #16]
	ldp	x0, x1, [sp]
	add	sp, sp, #288
	eret

/* ---- Accesses that may fault: what is caught continues at x30 --------------------------- */

	.global do_load, do_store, do_fetch
do_load:
	ldr	x0, [x0]
	ret
do_store:
	str	x1, [x0]
	ret
do_fetch:
	stp	x29, x30, [sp, #-16]!
	blr	x0
	ldp	x29, x30, [sp], #16
	ret

	/* To the code at x2 below this level (SPSR in x3), and back by an exception. */
	.global go_below, back_from_below
go_below:
	stp	x29, x30, [sp, #-16]!
	mrs	x4, CurrentEL
	cmp	x4, #8
	b.eq	2f
	msr	elr_el1, x2
	msr	spsr_el1, x3
	eret
2:	msr	elr_el2, x2
	msr	spsr_el2, x3
	eret
back_from_below:
	ldp	x29, x30, [sp], #16
	ret

	.global semihosting
semihosting:
	hlt	#0xf000
	ret

/* ---- The same accesses, for EL0 ---------------------------------------------------------- */

	.section .user, "ax"
	.balign	4096
	.global user_load, user_store, user_fetch
user_load:
	ldr	x0, [x0]
	svc	#0
user_store:
	str	x1, [x0]
	svc	#0
user_fetch:
	blr	x0
	svc	#0

	/* The same for a guest, at EL1. Its vectors give all that it catches, EL0's SVC, to EL2. */
	.global guest_load, guest_store, guest_fetch
guest_load:
	ldr	x0, [x0]
	hvc	#0
guest_store:
	str	x1, [x0]
	hvc	#0
guest_fetch:
	blr	x0
	hvc	#0

	.balign	2048
	.global guest_vectors
guest_vectors:
	.rept	16
	.balign	128
	hvc	#0
	.endr
