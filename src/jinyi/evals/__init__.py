"""The evaluation room: tables that say how they were made, beside baselines computed in the same run."""
