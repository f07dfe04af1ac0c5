"""What the lessons need, and a few commands. Import its modules by name: no command may load
widgets, and plots only to draw.

Read host first (where a notebook runs), then plots, score_plots and diagrams, widgets and
threshold_panel, exercises (they check themselves), ablations, baselines, plane and costs; doctor
and run_all are what two commands do.
"""
