# SPDX-License-Identifier: MIT
#
# Registering tests.
#
#   aspace_test(NAME name SOURCES file...
#               [VARIANT testing|fanout4|frozen|shared]  # which library; default: the static one
#               [LIBS target...]                  # beside the library, mock, cmocka, pthread
#               [LABELS kind label...]            # default: unit
#               [DEFINITIONS NAME=VALUE...]
#               [ARGS argument...]
#               [ENV NAME=VALUE...]
#               [TIMEOUT seconds]                 # default: half an hour
#               [SERIAL]                          # needs both cores: nothing runs beside it
#               [NO_CMOCKA])
#
# makes the program `name` and the CTest test of that name. The program may
# include internal headers ("tree/node.h"). liburcu's other flavours are there
# as PkgConfig::URCU_MEMB, PkgConfig::URCU_QSBR and PkgConfig::URCU_MB for LIBS.
#
# The first label is the kind of the test, and decides in which builds it is made:
#   unit       short, about one module; every build
#   threads, conformance, examples, replay, torture
#              every build but valgrind
#   model      many operations in one thread: neither in builds that are there for threads
#              (tsan) nor under valgrind; fewer under qemu
#   fault, fuzz, exhaustive
#              the same, and not under qemu
#   tree, bench
#              about the source tree (headers, install, free-standing, reference), or
#              the benchmark: native builds without sanitizers
#
#   aspace_script_test(NAME name COMMAND ... [LABELS label...] [TIMEOUT seconds])
#
# registers a command (default label: tree); exit code 77 means "skipped, with a
# reason on stdout".
#
# TIMEOUT is a net for what hangs, and no measure: no test ends by a clock, and each must pass
# on a machine that is busy with much else. -DASPACE_TEST_TIMEOUT=60 for who is impatient.

find_package(PkgConfig REQUIRED)
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
pkg_check_modules(URCU_MEMB REQUIRED IMPORTED_TARGET liburcu-memb)
pkg_check_modules(URCU_QSBR REQUIRED IMPORTED_TARGET liburcu-qsbr)
pkg_check_modules(URCU_MB REQUIRED IMPORTED_TARGET liburcu-mb)

# A finding of any tool is a failure of the test.
set(ASPACE_TEST_ENV
	"TSAN_OPTIONS=exitcode=66:history_size=7:second_deadlock_stack=1"
	"ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:allocator_may_return_null=1"
	"UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1"
	"LSAN_OPTIONS=exitcode=23"
)
if(CMAKE_CROSSCOMPILING OR ASPACE_VALGRIND)
	# What qemu-user or valgrind gets wrong (fork beside threads, /proc/self/maps,
	# the kernel's mapping limit) a test skips where it finds this.
	list(APPEND ASPACE_TEST_ENV "ASPACE_EMULATED=1")
endif()

set(ASPACE_TEST_WRAPPER "")
if(ASPACE_VALGRIND)
	find_program(VALGRIND valgrind REQUIRED)
	set(ASPACE_TEST_WRAPPER ${VALGRIND} --error-exitcode=99 --leak-check=full
		--errors-for-leak-kinds=definite,indirect --fair-sched=yes --quiet
	)
	set(valgrind_supp ${PROJECT_SOURCE_DIR}/src/platform/valgrind.supp)
	if(EXISTS ${valgrind_supp})
		list(APPEND ASPACE_TEST_WRAPPER --suppressions=${valgrind_supp})
	endif()
endif()

set(ASPACE_TEST_TIMEOUT 1800 CACHE STRING "Seconds after which a test hangs")

# The kinds that this build leaves out.
if(ASPACE_VALGRIND)
	set(kinds_off tree bench threads conformance examples replay torture model fault fuzz
		exhaustive)
elseif(ASPACE_SANITIZE MATCHES "thread")
	set(kinds_off tree bench model fault fuzz exhaustive)
elseif(CMAKE_CROSSCOMPILING)
	set(kinds_off tree bench fault fuzz exhaustive)
elseif(ASPACE_SANITIZE OR ASPACE_COVERAGE)
	set(kinds_off tree bench)
else()
	set(kinds_off "")
endif()
set(ASPACE_KINDS_OFF "${kinds_off}" CACHE STRING "Kinds of tests that this build leaves out")

function(aspace_test_properties name labels timeout)
	if(NOT timeout)
		set(timeout ${ASPACE_TEST_TIMEOUT})
	endif()
	set_tests_properties(${name} PROPERTIES
		LABELS "${labels}"
		TIMEOUT ${timeout}
		SKIP_RETURN_CODE 77
		ENVIRONMENT "${ASPACE_TEST_ENV};${ARGN}"
	)
endfunction()

function(aspace_test)
	cmake_parse_arguments(PARSE_ARGV 0 arg "NO_CMOCKA;SERIAL" "NAME;VARIANT;TIMEOUT"
		"SOURCES;LIBS;LABELS;DEFINITIONS;ARGS;ENV")
	if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_SOURCES)
		message(FATAL_ERROR "aspace_test(${arg_NAME}): NAME and SOURCES are needed; "
			"not understood: '${arg_UNPARSED_ARGUMENTS}'")
	endif()
	if(NOT arg_LABELS)
		set(arg_LABELS unit)
	endif()
	list(GET arg_LABELS 0 kind)
	if(kind IN_LIST ASPACE_KINDS_OFF)
		return()
	endif()
	if(NOT arg_NO_CMOCKA)
		list(APPEND arg_LIBS PkgConfig::CMOCKA)
	endif()
	aspace_program(${arg_NAME} VARIANT ${arg_VARIANT} SOURCES ${arg_SOURCES}
		LIBS ${arg_LIBS} DEFINITIONS ${arg_DEFINITIONS})
	if(ASPACE_TEST_WRAPPER)
		add_test(NAME ${arg_NAME}
			COMMAND ${ASPACE_TEST_WRAPPER} $<TARGET_FILE:${arg_NAME}> ${arg_ARGS})
	else() # a target's name, so that CMake puts the emulator before it
		add_test(NAME ${arg_NAME} COMMAND ${arg_NAME} ${arg_ARGS})
	endif()
	aspace_test_properties(${arg_NAME} "${arg_LABELS}" "${arg_TIMEOUT}" ${arg_ENV})
	if(arg_SERIAL)
		set_tests_properties(${arg_NAME} PROPERTIES RUN_SERIAL ON)
	endif()
endfunction()

function(aspace_script_test)
	cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;TIMEOUT" "COMMAND;LABELS;ENV")
	if(arg_UNPARSED_ARGUMENTS OR NOT arg_NAME OR NOT arg_COMMAND)
		message(FATAL_ERROR "aspace_script_test(${arg_NAME}): NAME and COMMAND are needed; "
			"not understood: '${arg_UNPARSED_ARGUMENTS}'")
	endif()
	if(NOT arg_LABELS)
		set(arg_LABELS tree)
	endif()
	list(GET arg_LABELS 0 kind)
	if(kind IN_LIST ASPACE_KINDS_OFF)
		return()
	endif()
	add_test(NAME ${arg_NAME} COMMAND ${arg_COMMAND})
	aspace_test_properties(${arg_NAME} "${arg_LABELS}" "${arg_TIMEOUT}" ${arg_ENV})
endfunction()
