"""The eleven MuJoCo tasks of Gymnasium v5, written once over simulation fields."""
