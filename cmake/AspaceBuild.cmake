# SPDX-License-Identifier: MIT
#
# How every C file of the project is compiled: warnings, sanitizers, coverage.
# All of it hangs on the interface target aspace_flags, which is linked
# privately everywhere and never installed.

add_library(aspace_flags INTERFACE)

target_compile_options(aspace_flags INTERFACE
	-Wall -Wextra -Wundef -Wshadow -Wvla -Wformat=2 -Wwrite-strings
	-Wpointer-arith -Wcast-qual -Wimplicit-fallthrough
	$<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes;-Wmissing-prototypes;-Wold-style-definition>
)
target_link_libraries(aspace_flags INTERFACE Threads::Threads)

if(ASPACE_SANITIZE)
	# Findings end the program: a test that goes on after one has not passed.
	# Frame pointers and no tail calls keep the reports readable.
	set(sanitize
		-fsanitize=${ASPACE_SANITIZE} -fno-sanitize-recover=all
		-fno-omit-frame-pointer -fno-optimize-sibling-calls
	)
	target_compile_options(aspace_flags INTERFACE ${sanitize})
	target_link_options(aspace_flags INTERFACE ${sanitize})
	if(ASPACE_SANITIZE MATCHES "thread")
		# ck_pr is inline assembly unless told otherwise: ThreadSanitizer
		# would see none of its compare-and-swaps.
		target_compile_definitions(aspace_flags INTERFACE CK_USE_CC_BUILTINS)
	endif()
endif()

if(ASPACE_COVERAGE)
	target_compile_options(aspace_flags INTERFACE --coverage -fprofile-update=atomic)
	target_link_options(aspace_flags INTERFACE --coverage)
	# Children of fork write down what they have counted before they end.
	target_compile_definitions(aspace_flags INTERFACE ASPACE_COVERAGE=1)
endif()

if(ASPACE_VALGRIND)
	target_compile_definitions(aspace_flags INTERFACE ASPACE_VALGRIND=1)
endif()

#   aspace_program(target SOURCES file... [VARIANT ...] [LIBS ...] [DEFINITIONS ...])
#
# A program of the tests or of stress/, with internal headers and all libraries;
# aspace_test() (cmake/AspaceTest.cmake) describes the arguments.
function(aspace_program target)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "VARIANT" "SOURCES;LIBS;DEFINITIONS")
	if(arg_UNPARSED_ARGUMENTS)
		message(FATAL_ERROR "aspace_program(${target}): what is ${arg_UNPARSED_ARGUMENTS}?")
	endif()
	if(NOT arg_VARIANT)
		set(arg_VARIANT static)
	endif()
	if(arg_VARIANT STREQUAL shared AND NOT ASPACE_SHARED)
		set(arg_VARIANT static)
	endif()
	add_executable(${target} ${arg_SOURCES})
	target_include_directories(${target} PRIVATE
		${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
	target_compile_definitions(${target} PRIVATE ${arg_DEFINITIONS})
	target_link_libraries(${target} PRIVATE aspace_flags ${arg_LIBS})
	target_link_libraries(${target} PRIVATE
		aspace_mock aspace_${arg_VARIANT} PkgConfig::URCU_BP PkgConfig::CK Threads::Threads)
endfunction()
