"""Its being here lets the tests of every room import this folder's helpers."""
