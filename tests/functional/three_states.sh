#!/bin/sh
# Writes three states to one file, a second apart: the command that the functional test records.
set -eu
printf 'STATE_1' >status.txt
sleep 1
printf 'STATE_2' >status.txt
sleep 1
printf 'STATE_3' >status.txt
