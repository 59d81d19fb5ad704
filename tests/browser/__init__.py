"""What people see in a browser: headless Chromium, driven by selenium."""
