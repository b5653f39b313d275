/** The label by which a test run knows its containers. Its value is PULSEPOOL_TEST_RUN. */
export const RUN_LABEL = 'pulsepool.test-run';
