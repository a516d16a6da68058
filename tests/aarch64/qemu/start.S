/* SPDX-License-Identifier: MIT */
/*
 * Entry, at EL3 or EL2 with the MMU off, and a vector table: every exception ends the run.
 */
	.section .text.start, "ax"
	.global start
start:
	ldr	x0, =stack_top
	mov	sp, x0
	ldr	x0, =vectors
	mrs	x1, CurrentEL
	cmp	x1, #12
	b.ne	1f
	msr	vbar_el3, x0
1:	msr	vbar_el2, x0
	ldr	x0, =bss_start
	ldr	x1, =bss_end
2:	cmp	x0, x1
	b.hs	3f
	stp	xzr, xzr, [x0], #16
	b	2b
3:	bl	main
	b	finish

	.text
	.balign 2048
vectors:
	.rept	16
	b	caught
	.balign 128
	.endr

caught:
	mrs	x3, CurrentEL
	cmp	x3, #12
	b.ne	1f
	mrs	x0, esr_el3
	mrs	x1, elr_el3
	mrs	x2, far_el3
	b	unexpected
1:	mrs	x0, esr_el2
	mrs	x1, elr_el2
	mrs	x2, far_el2
	b	unexpected

	.global semihosting
semihosting:
	hlt	#0xf000
	ret
