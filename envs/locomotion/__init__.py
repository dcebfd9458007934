"""The eleven MuJoCo locomotion tasks, one file each, as functions of simulation fields."""
